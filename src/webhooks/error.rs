//! The reasons why a notification is not taken.

use std::sync::Arc;

use crate::store;

/// The reason why a notification was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Account, client id and signature do not belong together; which of them is wrong is not told.
    #[error("the account, the client id and the signature of the body do not belong together")]
    Unsigned,
    /// As many as may wait are waiting.
    #[error("too many notifications wait to be stored")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The storage is away.
    #[error(transparent)]
    Store(Arc<store::Error>),
}
