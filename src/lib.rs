//! Connects messaging channels to LivePerson's Conversational Cloud.

pub mod clock;
