//! The Cloud's JSON: types for serde only. Requests borrow their data, and never contain a `null`
//! or an empty object. Answers may have unknown members, which are ignored.

pub(super) mod conversation;
pub(super) mod file;
pub(super) mod monitoring;
pub(super) mod profile;
pub(super) mod request;
pub(super) mod tokens;
