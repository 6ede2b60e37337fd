//! The domain types: ids, profiles, conversations, messages, events, audit entries. They do no I/O.
//!
//! Input from outside is parsed into these types once, at the edge of the service, so that no other
//! code has to check it again. The types that are part of API bodies carry their OpenAPI schema.

pub mod audit;
pub mod conversation;
pub mod delivery;
pub mod event;
pub mod file;
pub mod idempotency;
pub mod ids;
pub mod links;
pub mod message;
pub mod offer;
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
pub mod timeline;
pub mod trace;
