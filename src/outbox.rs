//! The outbox: it carries a channel's requests to the Cloud, from submission to outcome.
//!
//! ```text
//!  submit ── prepare ── claim its key ──┬── Order: others wait before it ────────────────┐
//!                                       │                                                v
//!                                       └── send ──┬── Sent ──> the caller's 201     enqueue ──> the caller's 202
//!                                                  ├── Refused ──> an error              │
//!                                                  ├── NotSent ── pause ───────────────> │
//!                                                  └── Unknown ── in flight ───────────> │
//!                                                                                        v
//!   waiting ── its user's lane is due ──> sending ──┬── Sent ─────> sent: event message.sent
//!      ^                                            ├── Refused ──> failed: event message.failed
//!      ├── pause ───────────────────────────────────┤ NotSent
//!      └── no echo came ── unknown ─────────────────┘ Unknown
//!                             └── its echo came ──> sent
//! ```
//!
//! The states in the lower half of the diagram are stored
//! ([`RequestState`](crate::types::request::RequestState)). Each stage is in the file of its name,
//! and turns one value into another:
//!
//! | stage | from | to |
//! | --- | --- | --- |
//! | `submit` | the request of a channel | `Accepted`: done, or queued |
//! | `prepare` | the lookup of the user | the session and the record of the first message, without I/O |
//! | `record` | a message that is about to be sent | the write-ahead record; `SendMode` decides where it is stored |
//! | `send` | a `Job` | `Attempted`: the job with its progress, and a `SendResult` |
//! | `enqueue` | a job and the `QueueReason` to queue it | a stored request, or `NoRoom` |
//! | `lane` | a lane that is due | steps on its first request, in order |
//! | `settle` | a `SendResult` | the stored outcome, the event, and the `Next` step |
//! | `echo` | a message of unknown outcome | proof that it arrived, or another attempt |
//!
//! The pause before another attempt is in `bridge::retry`. The closes of erased users'
//! conversations use it too.
//!
//! The normal path of a message takes one lookup in the store and one request to the Cloud, without
//! a lock. A future reserves memory for every step that it may take, and is copied into the future
//! that awaits it. So rare steps on that path are in a `Box::pin`, and so is the request to the
//! Cloud.
//!
//! To add a request that can be queued while the Cloud is unavailable, add:
//!
//! 1. a kind of `Work` with its `kind` and `parts` (`job`), its `RequestKind`
//!    (`store/requests.rs`), and a migration of both engines that allows its name in
//!    `requests.kind`. A version gives up stored work that it cannot read. So the version that
//!    reads the kind is released before the one that writes it (`docs/development.md`);
//! 2. a file with the function that submits it;
//! 3. its execution: in `execute` of `send` if it is not a message (`parts` is 0), else in
//!    `send_messages`;
//! 4. its operation (`api/v1.rs`), with `Prefer` and `Accepted`;
//! 5. its part in the crash suite (`tests/it/crash`).

mod accepted;
mod attempt;
mod backlog;
mod closing;
mod echo;
mod enqueue;
mod files;
mod job;
mod lane;
mod messages;
mod passthrough;
mod prepare;
mod ratings;
mod receipts;
mod recent;
mod record;
mod refusals;
mod send;
mod settle;
mod split;
mod step;
mod submit;
mod waking;

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Notify;

pub use accepted::{Accepted, Queued, WaitPreference};
pub use files::NewFile;
pub use job::{Choice, SentFile};
pub use lane::DueLanes;
pub use messages::{Message, NewMessage};
pub use passthrough::Raw;

use crate::bridge::Bridge;
use crate::media::Previews;
use backlog::Backlogs;
use recent::RecentMessages;
use refusals::ConfirmedOpen;

/// The outbox, which sends the requests of channels to the Cloud, at once or later. Clones are
/// cheap and share one state.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

/// The state that clones of an outbox share.
#[derive(Debug)]
pub struct Shared {
    bridge: Bridge,
    /// Notified when a lane has become due here.
    due: Notify,
    recent: RecentMessages,
    confirmed_open: ConfirmedOpen,
    backlogs: Backlogs,
    previews: Previews,
}

impl Deref for Outbox {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Outbox {
    /// Creates an outbox over the bridge.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self(Arc::new(Shared {
            bridge,
            due: Notify::default(),
            recent: RecentMessages::default(),
            confirmed_open: ConfirmedOpen::default(),
            backlogs: Backlogs::default(),
            previews: Previews::default(),
        }))
    }
}
