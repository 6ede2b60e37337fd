//! Waiting for a condition instead of a fixed time.

use std::time::Duration;

/// 60 s: the longest wait for a condition, enough for a busy machine. Only a failing test waits
/// this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `poll` repeatedly until it returns a value.
pub(crate) async fn eventually<T>(condition: &str, mut poll: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let polling = async {
        loop {
            ticks.tick().await;
            if let Some(found) = poll().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, polling)
        .await
        .unwrap_or_else(|_| panic!("{condition}: not within {PATIENCE:?}"))
}
