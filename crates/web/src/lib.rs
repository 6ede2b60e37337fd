//! Rules of HTTP that need only the headers of a request. They work with any HTTP library.

pub mod cross_site;
pub mod negotiation;
