//! The circumstances of a try.

use tokio::time::Instant;

use crate::bridge::{Caller, KeyClaim};
use crate::store::{Lease, UserRef};
use crate::types::ids::UserKey;
use crate::types::message::MessageId;

/// The circumstances of a try.
pub(super) struct Attempt<'a> {
    pub(super) caller: &'a Caller,
    pub(super) key: &'a UserKey,
    /// The end of the time that it may take.
    pub(super) until: Instant,
    pub(super) mode: Mode<'a>,
}

/// The way in which a request is done, which decides where its sends are recorded and who waits for them.
#[derive(Clone, Copy)]
pub(super) enum Mode<'a> {
    /// At once, while its caller waits, with nothing recorded.
    Direct,
    /// At once, while its caller waits, recorded in the row of its idempotency key.
    Keyed(&'a KeyClaim),
    /// On its user's lane, recorded in its own row. Nobody waits.
    Lane(LaneGuard<'a>),
}

/// The lane of a user, held for a request.
#[derive(Clone, Copy)]
pub(super) struct LaneGuard<'a> {
    pub(super) user: UserRef,
    pub(super) lease: &'a Lease,
    pub(super) id: MessageId,
}

impl<'a> Mode<'a> {
    /// The mode of a request that is done while its caller waits.
    pub(super) fn at_once(caller: &'a Caller) -> Self {
        let claim = caller.claim.as_deref();
        claim.map_or(Self::Direct, Self::Keyed)
    }

    /// The user whose lane is held; `None` where a caller waits.
    pub(super) fn lane(&self) -> Option<UserRef> {
        match self {
            Self::Direct | Self::Keyed(_) => None,
            Self::Lane(lane) => Some(lane.user),
        }
    }
}
