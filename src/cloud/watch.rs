//! The observer of an account's requests: it counts them and remembers the last fault.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::Error;
use crate::clock::SharedClock;
use crate::telemetry::metrics::{CLOUD_REQUESTS, Metrics};
use crate::types::status::LastError;

/// Counts the requests of an account, and remembers the last fault.
pub(super) struct Watch {
    metrics: Metrics,
    clock: SharedClock,
    last: ArcSwapOption<LastError>,
}

impl Watch {
    pub(super) fn new(metrics: Metrics, clock: SharedClock) -> Self {
        Self {
            metrics,
            clock,
            last: ArcSwapOption::empty(),
        }
    }

    /// Runs one attempt of a request and counts it, unless it was not begun.
    pub(super) async fn measured<T>(
        &self,
        operation: &'static str,
        // A closure and not a future: a future would be stored twice, as the argument and while it
        // is awaited.
        request: impl AsyncFnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let outcome = request().await;
        let word = match &outcome {
            Ok(_) => "ok",
            Err(Error::NotAttempted(_)) => return outcome,
            Err(error) => {
                self.note(operation, error);
                error.word()
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        self.metrics
            .observe(&CLOUD_REQUESTS, [operation, word], seconds);
        outcome
    }

    fn note(&self, operation: &'static str, error: &Error) {
        let is_of_the_account = matches!(
            error,
            Error::CredentialsRefused { .. } | Error::AppTokenRefused
        );
        if is_of_the_account || error.is_transient() {
            self.last.store(Some(Arc::new(LastError {
                at: self.clock.now(),
                operation,
                error: error.word(),
            })));
        }
    }

    /// Returns the last fault, if there was any.
    pub(super) fn last_trouble(&self) -> Option<LastError> {
        self.last.load().as_deref().copied()
    }
}
