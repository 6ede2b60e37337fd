//! The context of an attempt.

use tokio::time::Instant;

use crate::bridge::{Caller, KeyClaim};
use crate::store::{Lease, UserRef};
use crate::types::ids::UserKey;
use crate::types::message::MessageId;

/// The context of an attempt: its caller, its user, its deadline and its mode.
pub(super) struct Attempt<'a> {
    pub(super) caller: &'a Caller,
    pub(super) key: &'a UserKey,
    /// The time at which it must end.
    pub(super) deadline: Instant,
    pub(super) mode: SendMode<'a>,
}

/// The mode of an attempt. It decides where messages are recorded, and whether a caller waits for
/// them.
#[derive(Clone, Copy)]
pub(super) enum SendMode<'a> {
    /// At once, while its caller waits, without a write-ahead record.
    Direct,
    /// At once, while its caller waits, with a record in the row of its idempotency key.
    Keyed(&'a KeyClaim),
    /// On the user's lane, with a record in its own row. No caller waits.
    Lane(LaneGuard<'a>),
}

/// The lane of a user, held for a request.
#[derive(Clone, Copy)]
pub(super) struct LaneGuard<'a> {
    pub(super) user: UserRef,
    pub(super) lease: &'a Lease,
    pub(super) id: MessageId,
}

impl<'a> SendMode<'a> {
    /// Returns the mode of a request that is done while its caller waits.
    pub(super) fn at_once(caller: &'a Caller) -> Self {
        let claim = caller.claim.as_deref();
        claim.map_or(Self::Direct, Self::Keyed)
    }

    /// Returns the user whose lane is held; `None` if a caller waits.
    pub(super) fn lane(&self) -> Option<UserRef> {
        match self {
            Self::Direct | Self::Keyed(_) => None,
            Self::Lane(lane) => Some(lane.user),
        }
    }
}
