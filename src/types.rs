//! The words of the domain: ids, profiles, conversations, messages, events, what operators do. No I/O.
//!
//! What comes from outside is parsed into these types once, at the edge, so that nothing behind the edge has to
//! check it again. The types that are part of the facade's bodies carry their OpenAPI schema with them.

pub mod audit;
pub mod conversation;
pub mod delivery;
pub mod event;
pub mod file;
pub mod idempotency;
pub mod ids;
pub mod links;
pub mod message;
pub mod ownership;
pub mod problem;
pub mod profile;
pub mod rating;
pub mod rejection;
pub mod request;
pub mod sketch;
pub mod status;
pub mod surrogates;
pub mod time;
pub mod trace;
