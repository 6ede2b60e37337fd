//! Rules of HTTP that a server keeps by the headers of a request alone, whichever library serves it.

pub mod cross_site;
pub mod negotiation;
