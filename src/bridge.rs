//! The mapping of users to the Cloud's consumers and conversations, and the rules that keep it
//! correct.
//!
//! However many callers ask, one conversation is opened per user. A conversation that the Cloud has
//! closed is replaced, and a refused ConsumerJWS is renewed once. Messages in a conversation go
//! through [`outbox`](crate::outbox). This module knows nothing of the HTTP API for channels. The
//! protocol of the Cloud belongs to `cloud`.
//!
//! A future reserves memory for every step that it may take, and is copied into the future that
//! awaits it. So rare steps on the path of a message are in a `Box::pin`. The request to the Cloud
//! is boxed too, or every future above it would reserve its size again.

mod audit;
mod conversations;
mod deliveries;
mod erasures;
mod error;
mod events;
mod files;
mod idempotency;
mod lanes;
mod nacks;
mod openings;
mod operator;
mod queue_metrics;
mod reports;
mod retention;
pub(crate) mod retry;
mod rotation;
mod session;
mod shared_reads;
mod tokens;
mod typing;
mod user_wakeups;
mod users;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use audit::migrate;
pub use conversations::OpenOutcome;
pub use deliveries::DeliveryPage;
pub use erasures::{DueCloses, Remainder};
pub use error::{CloudFailure, CloudFailureKind, Error};
pub use events::{EventPage, EventStream, Gap};
pub use files::{FetchedFile, FilePermit};
pub use idempotency::{Claiming, FinishedWork, KeyClaim, KeyOutcome, KeyedResult, KeyedWork};
pub(crate) use lanes::RENEWAL;
pub use nacks::DueNacks;
pub(crate) use openings::{Joined, OpeningRequest};
pub use operator::{ChannelOverview, EventDetails, Operator, Overview};
pub use retention::Retention;
pub use rotation::{Rotation, count_opened, rotate};
pub(crate) use session::Session;
pub use typing::DueTypingEnds;

use crate::bounds::{Bound, Holder};
use crate::clock::SharedClock;
use crate::cloud;
use crate::crypto::Keyring;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::types::audit::Actor;
use crate::types::conversation::Opening;
use crate::types::event::Subscription;
use crate::types::file::ImageType;
use crate::types::ids::{AccountId, ChannelId, ConversationId, Namespace, UserId, UserKey};
use crate::types::trace::Trace;
use events::ReadLimits;
use openings::Openings;
use shared_reads::SharedReads;
pub use user_wakeups::UserReaders;
use user_wakeups::UserWakeups;

/// 1 s: the interval at which a replica polls for due background work.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The use cases, over the parts that they need. Clones are cheap and share one state.
#[derive(Debug, Clone)]
pub struct Bridge(Arc<Shared>);

/// The state that clones of a bridge share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) parts: Parts,
    openings: Openings,
    /// Notified when a user's typing has become due here, so that its end does not wait for the
    /// next poll.
    typing_due: Notify,
    /// Notified when the close of an erased user's conversation has become due here.
    pub(crate) closes_due: Notify,
    file_permits: Bound,
    reader_permits: Bound,
    read_limits: ReadLimits,
    log_reads: SharedReads,
    user_wakeups: UserWakeups,
}

impl Deref for Bridge {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// The parts that the use cases work with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The client of the Cloud.
    pub cloud: cloud::Client,
    /// The keys that seal tokens.
    pub keyring: Keyring,
    /// The clock.
    pub clock: SharedClock,
    /// The metrics.
    pub metrics: Metrics,
    /// The configured channels, for work that is done without a request.
    pub channels: HashMap<ChannelId, Arc<Channel>>,
    /// The event subscriptions of the channels.
    pub subscriptions: HashMap<ChannelId, Subscription>,
    /// The sender of the ids of conversations that were opened, so that unmatched changes are
    /// matched at once.
    pub opened: mpsc::Sender<ConversationId>,
    /// Tracks the tasks that must finish even if their caller disconnects.
    pub tasks: TaskTracker,
    /// Cancels all waits when the service stops.
    pub stopping: CancellationToken,
}

impl Bridge {
    /// Creates the use cases over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let channels = parts.channels.len();
        let read_limits = ReadLimits::new(parts.channels.keys(), parts.store.reading_connections());
        Self(Arc::new(Shared {
            parts,
            openings: Openings::default(),
            typing_due: Notify::default(),
            closes_due: Notify::default(),
            file_permits: Bound::new(files::shares(channels)),
            reader_permits: Bound::new(events::shares(channels)),
            read_limits,
            log_reads: SharedReads::default(),
            user_wakeups: UserWakeups::default(),
        }))
    }
}

/// The settings of a channel that the use cases need.
#[derive(Debug)]
pub struct Channel {
    /// The channel's id.
    pub id: ChannelId,
    /// The account of its conversations.
    pub account_id: AccountId,
    /// The namespace of its users.
    pub namespace: Namespace,
    /// The parameters of an opening by a message that has none of its own.
    pub defaults: Opening,
    /// True if a user's text may name one of the choices that the user is offered, unless the
    /// request says otherwise.
    pub match_choices: bool,
    /// The maximum number of characters in the JSON of a request with a text to the Cloud.
    pub max_request_chars: usize,
    /// The maximum size of a user's file, in bytes.
    pub max_file_bytes: usize,
    /// The file types that its users may send.
    pub file_types: Vec<ImageType>,
    /// The limit on queued requests of all its users, which is approximate.
    pub max_queued: u32,
    /// The limit on queued requests of one user.
    pub max_queued_per_user: u32,
    /// The time for which the delivery of an event is retried; `None` without a callback URL.
    pub deliver_for: Option<TimeDelta>,
}

/// The caller of a use case, with the trace and the idempotency claim of its request. Cheap to
/// clone.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The channel that the caller belongs to or acts for.
    pub channel: Arc<Channel>,
    /// The caller's identity in the audit log.
    pub actor: Actor,
    /// The trace of the request.
    pub trace: Arc<Trace>,
    /// The one user that the caller may access; `None` for all users of the channel.
    pub user: Option<UserId>,
    /// The claim on the request's idempotency key, if it has one.
    pub claim: Option<Arc<KeyClaim>>,
}

impl Caller {
    /// Returns the holder of the permits that its requests take.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder {
            channel: self.channel.id.as_str(),
            user: self.user.as_ref().map(UserId::as_str),
        }
    }

    /// True if the caller may access the data of this user.
    fn may_access(&self, user_id: &UserId) -> bool {
        self.user.as_ref().is_none_or(|user| user == user_id)
    }

    /// Returns the key of one of the channel's users.
    pub(crate) fn key(&self, user_id: UserId) -> UserKey {
        UserKey {
            account_id: self.channel.account_id.clone(),
            namespace: self.channel.namespace.clone(),
            user_id,
        }
    }
}
