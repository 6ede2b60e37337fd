//! Connects messaging channels to LivePerson's Conversational Cloud.

pub mod clock;
pub mod config;
pub mod crypto;
pub mod sandbox;
pub mod store;
pub mod types;
