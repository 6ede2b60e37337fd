//! The facade: what channels call, and what operators probe.
//!
//! A handler extracts, calls one use case of `bridge` or `outbox`, and maps the answer. Everything that goes wrong becomes a
//! [`Problem`](problem::Problem), whoever noticed it. The document and the routes come from one router, so neither can
//! name what the other lacks.

mod accepted;
pub mod admin;
mod around;
mod auth;
mod bounds;
mod cors;
mod documentation;
mod envelope;
mod extract;
mod form;
mod guesses;
mod idempotency;
mod limits;
mod load;
mod openapi;
mod parameters;
mod prefer;
pub mod problem;
mod protocol;
mod router;
mod state;
mod v1;
mod webhooks;

pub use auth::{Access, ChannelAccess};
pub use limits::Limits;
pub use load::Load;
pub use openapi::document;
pub use protocol::{MAX_HEAD_BYTES, ProtocolErrors};
pub use router::{router, webhooks_router};
pub use state::AppState;
