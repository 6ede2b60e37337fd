//! The observer of an account's requests.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::Error;
use crate::clock::SharedClock;
use crate::telemetry::metrics::{CLOUD_REQUESTS, Metrics};
use crate::types::status::LastError;

/// Counts the requests of an account, and remembers the last fault.
pub(super) struct Observer {
    metrics: Metrics,
    clock: SharedClock,
    last_error: ArcSwapOption<LastError>,
}

impl Observer {
    pub(super) fn new(metrics: Metrics, clock: SharedClock) -> Self {
        Self {
            metrics,
            clock,
            last_error: ArcSwapOption::empty(),
        }
    }

    /// Runs one attempt of a request and counts it, unless it was not begun.
    pub(super) async fn measure<T>(
        &self,
        operation: &'static str,
        // A closure and not a future: a future would be stored twice, as the argument and while it
        // is awaited.
        request: impl AsyncFnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let begun = Instant::now();
        let outcome = request().await;
        let name = match &outcome {
            Ok(_) => "ok",
            Err(Error::NotAttempted(_)) => return outcome,
            Err(error) => {
                self.record_fault(operation, error);
                error.name()
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        self.metrics
            .observe(&CLOUD_REQUESTS, [operation, name], seconds);
        outcome
    }

    fn record_fault(&self, operation: &'static str, error: &Error) {
        let is_account_fault = matches!(
            error,
            Error::CredentialsRefused { .. } | Error::AppTokenRefused
        );
        if is_account_fault || error.is_transient() {
            self.last_error.store(Some(Arc::new(LastError {
                at: self.clock.now(),
                operation,
                error: error.name(),
            })));
        }
    }

    /// Returns the last fault, if there was any.
    pub(super) fn last_error(&self) -> Option<LastError> {
        self.last_error.load().as_deref().copied()
    }
}
