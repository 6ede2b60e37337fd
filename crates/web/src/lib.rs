//! Rules of HTTP that a server applies by the headers of a request alone, with any HTTP library.

pub mod cross_site;
pub mod negotiation;
