//! The pages, used in a real browser.

mod demo;
mod docs;
mod operator;
mod pictures;
