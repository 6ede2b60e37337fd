//! The pages, used in a real browser.

mod demo;
mod docs;
mod events;
mod operator;
mod pictures;
