//! The reasons why a notification is rejected.

use std::sync::Arc;

use crate::store;

/// The reason why a notification was rejected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Account, client id and signature do not match. The error does not say which one is wrong.
    #[error("the account, the client id and the signature of the body do not match")]
    Unsigned,
    /// The queue of notifications is full.
    #[error("too many notifications are waiting to be stored")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The storage is unavailable.
    #[error(transparent)]
    Store(Arc<store::Error>),
}
