//! What the service says of itself: the [`log`], and its [`metrics`].
//!
//! Message text, tokens, profiles and phone numbers are never logged; the types that hold them do not show them.

pub mod log;
pub mod metrics;
