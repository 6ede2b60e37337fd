//! What the service says of itself: the log, and its [`metrics`].
//!
//! Message text, tokens, profiles and phone numbers are never logged; the types that hold them do not show them.

pub mod metrics;

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Sends the log to standard error, as detailed as `RUST_LOG` says (`info` by default).
///
/// The first call decides; later ones, as in tests, change nothing.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("the log was set up before");
    }
}
