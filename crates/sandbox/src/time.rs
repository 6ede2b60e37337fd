//! The time of the sandbox, which whoever tests can move on: tokens expire then, and tries that wait fall due.

use std::time::Duration;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Sandbox;
use super::order::Order;
use super::refusal::Refusal;
use liveperson_bridge_clock::{Clock as _, ShiftedClock};

/// 10 ms: how often the clock is looked at by who waits for a time; nobody can be woken by a clock that is moved.
const TICK: Duration = Duration::from_millis(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Moving {
    /// Seconds.
    advance: u32,
}

impl Sandbox {
    /// Moves the sandbox's clock ahead by so many seconds; says whether it can be so far ahead of the machine's.
    #[must_use]
    pub fn advance(&self, seconds: u32) -> bool {
        self.0.shift.advance(seconds)
    }

    /// Waits by the sandbox's clock.
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
    Order(moving): Order<Moving>,
) -> Result<Json<Value>, Refusal> {
    if sandbox.advance(moving.advance) {
        return Ok(Json(sandbox.time()));
    }
    let complaint = format!(
        "advance: the clock would be more than {} s ahead",
        ShiftedClock::FARTHEST
    );
    Err(Refusal::unprocessable(complaint))
}
