//! The mapping of users to consumers and conversations of the Cloud, and the rules that keep it true.
//!
//! One conversation is opened however many ask, one that the Cloud has closed is replaced, a refused ConsumerJWS is made anew
//! once. What is said in a conversation goes through [`outbox`](crate::outbox). Knows nothing of HTTP towards the channel; the
//! wire towards the Cloud is `cloud`'s.
//!
//! A future has room for all that may happen in it, and is copied when it is awaited by the next one. So on that way whatever
//! is rare stands in a `Box::pin`, and so does the request to the Cloud, whose room all above it would have again.

mod audit;
mod conversations;
mod deliveries;
mod erasures;
mod error;
mod events;
mod files;
mod gauges;
mod idempotency;
mod lanes;
mod nacks;
mod openings;
mod operating;
mod reports;
mod retention;
pub(crate) mod retry;
mod rotation;
mod session;
mod tokens;
mod typing;
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
pub use files::{FetchedFile, Place};
pub use idempotency::{Claiming, Done, KeyClaim, KeyFate, Keyed, Once};
pub(crate) use lanes::RENEWAL;
pub use nacks::DueNacks;
pub(crate) use openings::{Joined, OpeningRequest};
pub use operating::{ChannelOverview, EventCase, Operator, Overview};
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
use crate::types::event::Listener;
use crate::types::file::ImageType;
use crate::types::ids::{AccountId, ChannelId, ConversationId, Namespace, UserId, UserKey};
use crate::types::trace::Trace;
use events::Looks;
use openings::Openings;

/// 1 s: how often a replica looks for what is due in the background.
const LOOK: Duration = Duration::from_secs(1);

/// The use cases over their parts; a clone is one count.
#[derive(Debug, Clone)]
pub struct Bridge(Arc<Shared>);

/// What clones of a bridge share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) parts: Parts,
    openings: Openings,
    /// Rung when somebody's typing has become due here, so that nobody waits for the next look.
    typing_due: Notify,
    /// Rung when the close of an erased user's conversation has become due here.
    pub(crate) closes_due: Notify,
    places_for_files: Bound,
    places_for_readers: Bound,
    looks: Looks,
}

impl Deref for Bridge {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// What the use cases work with.
#[derive(Debug)]
pub struct Parts {
    /// The mapping.
    pub store: Store,
    /// The Cloud.
    pub cloud: cloud::Client,
    /// Seals tokens.
    pub keyring: Keyring,
    /// The time.
    pub clock: SharedClock,
    /// What is counted.
    pub metrics: Metrics,
    /// The channels, for what is done for them later.
    pub channels: HashMap<ChannelId, Arc<Channel>>,
    /// What the channels want to be told.
    pub listeners: HashMap<ChannelId, Listener>,
    /// Who wants to know of conversations that have been opened.
    pub opened: mpsc::Sender<ConversationId>,
    /// Holds what must finish although its caller has gone.
    pub tasks: TaskTracker,
    /// Ends all waiting when the service stops.
    pub stopping: CancellationToken,
}

impl Bridge {
    /// The use cases over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let channels = parts.channels.len();
        let looks = Looks::new(parts.channels.keys(), parts.store.reading_connections());
        Self(Arc::new(Shared {
            parts,
            openings: Openings::default(),
            typing_due: Notify::default(),
            closes_due: Notify::default(),
            places_for_files: Bound::new(files::shares(channels)),
            places_for_readers: Bound::new(events::shares(channels)),
            looks,
        }))
    }
}

/// What the use cases need to know of a channel.
#[derive(Debug)]
pub struct Channel {
    /// The channel.
    pub id: ChannelId,
    /// The account that its conversations are in.
    pub account_id: AccountId,
    /// The namespace of its users.
    pub namespace: Namespace,
    /// How a first message opens a conversation when it does not say so itself.
    pub defaults: Opening,
    /// Characters that the JSON of a request with a text may have at the Cloud.
    pub max_request_chars: usize,
    /// Bytes that a file of its users may have.
    pub max_file_bytes: usize,
    /// The kinds of files that its users may send.
    pub file_types: Vec<ImageType>,
    /// Requests of its users that may wait for the Cloud, about.
    pub max_queued: u32,
    /// Requests of one user that may.
    pub max_queued_per_user: u32,
    /// How long the delivery of an event to its callback URL is tried; none where it has no callback URL.
    pub deliver_for: Option<TimeDelta>,
}

/// Who asks, and the request that everything done for it belongs to; cheap to clone.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The channel whose key was presented.
    pub channel: Arc<Channel>,
    /// By what it is known, for what is recorded.
    pub actor: Actor,
    /// The request.
    pub trace: Arc<Trace>,
    /// The one user whom the caller may ask about; none: all of the channel's.
    pub user: Option<UserId>,
    /// The request's key, where it bears one.
    pub claim: Option<Arc<KeyClaim>>,
}

impl Caller {
    /// Who holds what is taken up for its requests.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder {
            channel: self.channel.id.as_str(),
            user: self.user.as_ref().map(UserId::as_str),
        }
    }

    /// Whether what is a user's may be shown.
    fn may_see(&self, user_id: &UserId) -> bool {
        self.user.as_ref().is_none_or(|user| user == user_id)
    }

    /// The key of one of the channel's users.
    pub(crate) fn key(&self, user_id: UserId) -> UserKey {
        UserKey {
            account_id: self.channel.account_id.clone(),
            namespace: self.channel.namespace.clone(),
            user_id,
        }
    }
}
