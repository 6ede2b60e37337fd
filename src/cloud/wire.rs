//! The Cloud's JSON: types for serde only, which borrow what is sent and are tolerant of what
//! arrives.
//!
//! Requests never contain a `null` or an empty object. Unknown members of answers are ignored.

pub(super) mod conversation;
pub(super) mod file;
pub(super) mod monitoring;
pub(super) mod profile;
pub(super) mod request;
pub(super) mod tokens;
