//! The Cloud's JSON: types for serde alone, borrowed on the way out, tolerant on the way in.
//!
//! What goes out never holds a `null` or an empty object. Unknown members that come in are ignored.

pub(super) mod conversation;
pub(super) mod file;
pub(super) mod monitoring;
pub(super) mod profile;
pub(super) mod request;
pub(super) mod tokens;
