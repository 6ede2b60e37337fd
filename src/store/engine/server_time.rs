//! The clock of the database, which all replicas share.

use sqlx::Row as _;

use super::Engine;
use crate::store::{Error, Store};

/// How often the clock is asked in a measurement, of which the quickest answer counts.
const SAMPLES: u32 = 3;

/// One round trip each: nothing is prepared, and no parameter sent.
const ASK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// What the database's clock showed between two moments of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    /// When it was asked, as `elapsed_us` has it.
    pub asked_us: i64,
    /// What the clock showed, in microseconds since the epoch.
    pub shown_us: i64,
    /// When the answer was here, as `elapsed_us` has it.
    pub answered_us: i64,
}

impl Store {
    /// Asks PostgreSQL for the time of day, by a clock that tells the microseconds that have
    /// elapsed here. `None` for the embedded database, which has no clock of its own.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn server_time(
        &self,
        elapsed_us: impl Fn() -> i64,
    ) -> Result<Option<ServerTime>, Error> {
        let Engine::Postgres(postgres) = &self.engine else {
            return Ok(None);
        };
        let mut quickest: Option<ServerTime> = None;
        for _ in 0..SAMPLES {
            let sample = postgres.run(async |db| {
                let asked_us = elapsed_us();
                let row = sqlx::raw_sql(ASK).fetch_one(db).await?;
                let answered_us = elapsed_us();
                Ok(ServerTime {
                    asked_us,
                    shown_us: row.try_get(0)?,
                    answered_us,
                })
            });
            let sample = sample.await?;
            if quickest.is_none_or(|it| sample.round_trip_us() < it.round_trip_us()) {
                quickest = Some(sample);
            }
        }
        Ok(quickest)
    }
}

impl ServerTime {
    fn round_trip_us(&self) -> i64 {
        self.answered_us - self.asked_us
    }
}
