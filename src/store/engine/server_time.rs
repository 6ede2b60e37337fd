//! The clock of the database, which all replicas share.

use sqlx::Row as _;

use super::Engine;
use crate::store::{Error, Store};

/// The number of samples in a measurement. The fastest one counts.
const SAMPLES: u32 = 3;

/// Reads the server's clock in microseconds. It takes one round trip: nothing is prepared, and
/// there are no parameters.
const READ_CLOCK: &str = "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)";

/// A reading of the database's clock between two moments of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTime {
    /// The moment of the request, as `elapsed_us` returned it.
    pub requested_us: i64,
    /// The server time that was read, in microseconds since the epoch.
    pub server_us: i64,
    /// The moment of the answer, as `elapsed_us` returned it.
    pub answered_us: i64,
}

impl Store {
    /// Reads PostgreSQL's clock, and records when each reading was requested and answered.
    /// `elapsed_us` returns the microseconds that have elapsed in this process. `None` for the
    /// embedded database, which has no clock of its own.
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
        let mut fastest: Option<ServerTime> = None;
        for _ in 0..SAMPLES {
            let sample = postgres.run(async |db| {
                let requested_us = elapsed_us();
                let row = sqlx::raw_sql(READ_CLOCK).fetch_one(db).await?;
                let answered_us = elapsed_us();
                Ok(ServerTime {
                    requested_us,
                    server_us: row.try_get(0)?,
                    answered_us,
                })
            });
            let sample = sample.await?;
            if fastest.is_none_or(|it| sample.round_trip_us() < it.round_trip_us()) {
                fastest = Some(sample);
            }
        }
        Ok(fastest)
    }
}

impl ServerTime {
    fn round_trip_us(&self) -> i64 {
        self.answered_us - self.requested_us
    }
}
