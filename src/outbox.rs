//! The outbox: the whole life of a request of a channel to the Cloud.
//!
//! ```text
//!  submit ── prepare ── claim its key ──┬── Order: others wait before it ────────────────┐
//!                                       │                                                v
//!                                       └── send ──┬── Sent ──> the caller's 201       keep ──> the caller's 202
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
//! The states below the line are stored ([`RequestState`](crate::types::request::RequestState)). The stages, each in the file of its
//! name, go from value to value:
//!
//! | stage | from | to |
//! | --- | --- | --- |
//! | `submit` | what a channel asks | `Accepted`: done, or queued |
//! | `prepare` | the look-up of the user | the session and the record of the first message, without I/O |
//! | `record` | a message that is about to be sent | the one write before it; `Mode` says where that goes |
//! | `send` | a `Job` | `Tried`: the job as far as it has come, and a `SendResult` |
//! | `keep` | a job and the `Reason` that it waits | a stored request, or `NoRoom` |
//! | `lane` | a lane that is due | steps on its first request, in order |
//! | `settle` | a `SendResult` | what is stored of it, the event, and the `Next` step |
//! | `echo` | a message of unknown outcome | proof that it arrived, or another try |
//!
//! The pause before another try is `bridge::retry`, which closes of erased users' conversations share.
//!
//! On the way of a message, when all is well, are one look-up in the store and one request to the Cloud, under no lock. A future
//! has room for all that may happen in it, and is copied when it is awaited by the next one. So what is rare on that way stands
//! in a `Box::pin`, and so does the request to the Cloud.
//!
//! To add a request that is queued while the Cloud is away:
//!
//! 1. a kind of `Work` with its `kind` and `parts` (`job`), its `RequestKind` (`store/requests.rs`), and a migration of both
//!    engines that lets `requests.kind` have its word. A version gives up stored work that it cannot read, so the version that reads
//!    it is released before the one that writes it (`docs/development.md`);
//! 2. a file with the function that submits it;
//! 3. its doing: in `act` of `send` where it is no message (`parts` is 0), else in `send_messages`;
//! 4. its operation (`api/v1.rs`), with `Prefer` and `Accepted`;
//! 5. its part in the crash suite (`tests/it/crash`).

mod accepted;
mod attempt;
mod backlog;
mod closing;
mod doubts;
mod echo;
mod files;
mod job;
mod keep;
mod lane;
mod messages;
mod passthrough;
mod prepare;
mod ratings;
mod receipts;
mod recent;
mod record;
mod send;
mod settle;
mod split;
mod step;
mod submit;
mod waking;

use std::ops::Deref;
use std::sync::Arc;

use tokio::sync::Notify;

pub use accepted::{Accepted, Patience, Queued};
pub use files::NewFile;
pub use job::{Choice, SentFile};
pub use lane::DueLanes;
pub use messages::{Message, NewMessage};
pub use passthrough::Raw;

use crate::bridge::Bridge;
use crate::media::Previews;
use backlog::Backlogs;
use doubts::FoundOpen;
use recent::Recent;

/// Does the requests of channels, now or later; a clone is one count.
#[derive(Debug, Clone)]
pub struct Outbox(Arc<Shared>);

/// The state that clones of an outbox share.
#[derive(Debug)]
pub struct Shared {
    bridge: Bridge,
    /// Notified when a lane has become due here.
    due: Notify,
    recent: Recent,
    found_open: FoundOpen,
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
    /// An outbox over the mapping.
    #[must_use]
    pub fn new(bridge: Bridge) -> Self {
        Self(Arc::new(Shared {
            bridge,
            due: Notify::default(),
            recent: Recent::default(),
            found_open: FoundOpen::default(),
            backlogs: Backlogs::default(),
            previews: Previews::default(),
        }))
    }
}
