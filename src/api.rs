//! The HTTP API for channels, and the admin address for operators.
//!
//! A handler extracts its input, calls one use case of `bridge` or `outbox`, and maps the result.
//! Every error becomes a [`Problem`](problem::Problem), whichever layer finds it. The OpenAPI
//! document and the routes come from one router, so neither can name an operation that the other
//! lacks.

mod accepted;
pub mod admin;
mod around;
mod auth;
mod bounds;
mod cors;
mod documentation;
mod extract;
mod form;
mod idempotency;
mod limits;
mod load;
mod openapi;
mod parameters;
mod prefer;
pub mod problem;
mod protocol;
mod request_log;
mod router;
mod state;
mod v1;
mod webhooks;
mod wrong_keys;

pub use auth::{Access, ChannelAccess};
pub use limits::Limits;
pub use load::Load;
pub use openapi::document;
pub use protocol::{MAX_HEAD_BYTES, ProtocolErrors};
pub use router::{router, webhooks_router};
pub use state::AppState;
