//! The black-box suite: the service as seen by a channel, the Cloud and an operator. Each module
//! tests one promise.
//!
//! `scripts/test` starts a throw-away PostgreSQL and names it in `TEST_DATABASE_URL`. Each test has
//! a database of its own there, or an SQLite file, and every promise is tested on both.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a test's tasks end with its runtime"
)]

#[macro_use]
mod support;

mod access;
mod actions;
mod adapter;
mod agent_openings;
mod audit;
mod browser;
mod clock;
mod cloud_variations;
mod commands;
mod configuration;
mod crash;
mod crowds;
mod deliveries;
mod delivery_management;
mod demo;
mod deployment;
mod doctor_conversation;
mod embedded;
mod erasures;
mod events;
mod examples;
mod file_links;
mod files;
mod full_disk;
mod hostile;
mod house;
mod idempotency;
mod isolation;
mod load;
mod logs;
mod long_texts;
mod match_choice;
mod metrics;
mod migrations;
mod nulls;
mod openapi;
mod opening_race;
mod operator;
mod otlp;
mod outages;
mod outbox;
mod parameters;
mod pasted_blocks;
mod payloads;
mod problems;
mod replacement;
mod request_ids;
mod restart;
mod retention;
mod rolling_restart;
mod rolling_update;
mod round_trip;
mod sandbox;
mod schemas;
mod secrecy;
mod shutdown;
mod skewed_clocks;
mod slow_readers;
mod storage_outages;
mod store;
mod stream_clients;
mod surveys;
mod tokens;
mod traces;
mod typing;
mod user_ids;
mod validation;
mod webhooks;
