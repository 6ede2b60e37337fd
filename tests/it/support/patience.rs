//! Waiting for a condition instead of for a time.

use std::time::Duration;

/// 60 s: the longest wait for a condition, enough for a busy machine. Only a failing test waits
/// this long.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `look` repeatedly until it returns a value.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
