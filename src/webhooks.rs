//! Webhooks: the Cloud's notifications are checked, parsed, stored, and translated into events.
//!
//! [`signature`] checks that the Cloud sent a body, and [`wire`] parses the body into changes.
//! [`translate`] combines a change with the known state of its conversation. The result is the
//! event for the channel and the update of the mapping. [`plain_text`] renders structured content
//! as text. These modules are pure functions.
//!
//! The receiver passes changes to the inbox. The inbox's writer stores many changes in one
//! transaction, and the interpreter translates them within it.
//!
//! The Cloud's notifications cover the whole account. They may arrive twice, late and in any order,
//! and their JSON gains members over time. So nothing is an error merely because it is new, and a
//! change that cannot be understood does not affect the others.

mod error;
mod inbox;
mod interpreter;
mod members;
mod notification_lag;
pub mod plain_text;
mod receiver;
mod rejections;
pub mod signature;
pub mod translate;
pub mod wire;

pub use crate::types::event::Subscription;
pub use error::Error;
pub use inbox::{Inbox, Writer};
pub use interpreter::{ChannelScope, Interpreter, SignedFileLinks};
pub use receiver::{CheckedHead, Installation, Origin, Receiver, Signed};
pub use rejections::Rejections;
