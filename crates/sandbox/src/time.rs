//! The sandbox's time, which tests can advance so that tokens expire and postponed attempts fall
//! due.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::control_request::JsonBody;
use super::refusal::Refusal;
use liveperson_bridge_clock::{Clock as _, ShiftedClock};

/// The interval at which a waiting task polls the clock: 10 ms. A clock that is moved by hand
/// cannot wake it.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockAdvance {
    /// The number of seconds.
    advance: u32,
}

impl Sandbox {
    /// Advances the sandbox's clock. False if it would be too far ahead of the machine's clock.
    #[must_use]
    pub fn advance(&self, seconds: u32) -> bool {
        self.0.shift.advance(seconds)
    }

    /// Waits for a number of seconds by the sandbox's clock.
    pub(super) async fn wait(&self, seconds: u32) {
        let until = self.0.clock.now() + TimeDelta::seconds(seconds.into());
        while self.0.clock.now() < until {
            tokio::time::sleep(TICK).await;
        }
    }

    fn time(&self) -> Value {
        let shift = &self.0.shift;
        json!({"now": shift.now(), "ahead": shift.ahead()})
    }
}

pub(super) fn control() -> Router<Sandbox> {
    Router::new().route("/clock", get(show).post(advance))
}

async fn show(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(sandbox.time())
}

async fn advance(
    State(sandbox): State<Sandbox>,
    JsonBody(request): JsonBody<ClockAdvance>,
) -> Result<Json<Value>, Refusal> {
    if sandbox.advance(request.advance) {
        return Ok(Json(sandbox.time()));
    }
    let complaint = format!(
        "advance: the clock would be more than {} s ahead",
        ShiftedClock::MAX_LEAD_S
    );
    Err(Refusal::unprocessable(complaint))
}
