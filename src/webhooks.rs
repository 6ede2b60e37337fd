//! What the Cloud tells: its notifications checked, read, stored, and translated into events.
//!
//! [`signature`] says whether the Cloud sent a body, [`wire`] reads it into changes, and [`translate`] makes of one change,
//! with what is known of its conversation, what channels hear and what the mapping learns; [`plain`] writes structured
//! content as text. These are pure functions. The receiver hands changes to the inbox, whose writer stores them, many in one
//! transaction, and the interpreter translates them within it.
//!
//! The Cloud's notifications are account-wide, come twice, late and in any order, and grow members over time. So
//! nothing here is ever an error because it is new, and one change that makes no sense leaves the others alone.

mod error;
mod hearing;
mod inbox;
mod interpreter;
mod members;
pub mod plain;
mod receiver;
mod rejections;
pub mod signature;
pub mod translate;
pub mod wire;

pub use crate::types::event::Listener;
pub use error::Error;
pub use inbox::{Inbox, Writer};
pub use interpreter::{Home, Interpreter};
pub use receiver::{Announced, Installation, Origin, Receiver, Signed};
pub use rejections::Rejections;
