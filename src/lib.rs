//! Connects messaging channels to LivePerson's Conversational Cloud.

pub mod clock;
pub mod cloud;
pub mod config;
pub mod crypto;
pub mod http;
pub mod sandbox;
pub mod store;
pub mod types;
