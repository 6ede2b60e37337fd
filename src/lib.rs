//! The bridge between messaging channels and LivePerson's Conversational Cloud.
//!
//! A channel's request arrives at [`api`]. It passes through the [`outbox`], which carries it out
//! in the user's conversation ([`bridge`]). The [`store`] holds all state, and [`cloud`] is the
//! client of the Cloud. The Cloud's notifications arrive at [`webhooks`]. Events for channels wait
//! in the store until [`delivery`] has delivered them. [`app`] assembles the parts and [`cli`]
//! starts them. [`sandbox`] is a simulated Cloud that shares nothing with the client, so that each
//! checks the other.
//!
//! `clock`, `web` and `sandbox` are separate crates, in `crates`.
//!
//! Imports go in one direction, which `tests/it/house.rs` enforces:
//!
//! | module | may use |
//! | --- | --- |
//! | `clock`, `web`, `types`, `telemetry`, `crypto`, `lifecycle`, `bounds` | nothing |
//! | `config` | `types`, `crypto` |
//! | `http`, `media` | `types` |
//! | `cloud` | `http`, `types`, `clock`, `telemetry` |
//! | `store` | `crypto`, `types` |
//! | `worker` | `store` |
//! | `bridge` | `worker`, `cloud`, `store`, `bounds`, `crypto`, `types`, `clock`, `telemetry` |
//! | `outbox` | `bridge`, `worker`, `cloud`, `store`, `media`, `bounds`, `types` |
//! | `webhooks` | `store`, `crypto`, `types`, `clock`, `telemetry` |
//! | `delivery` | `worker`, `store`, `http`, `crypto`, `types`, `clock`, `telemetry` |
//! | `api` | `bridge`, `outbox`, `webhooks`, `bounds`, `crypto`, `web`, `types`, `clock`, `telemetry` |
//! | `sandbox` | `clock`, `web` |
//! | `app`, `cli` | everything |

pub mod api;
pub mod app;
pub mod bounds;
pub mod bridge;
pub mod cli;
pub mod cloud;
pub mod config;
pub mod crypto;
pub mod delivery;
pub mod http;
pub mod lifecycle;
pub mod media;
pub mod outbox;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod webhooks;
pub mod worker;

pub use liveperson_bridge_clock as clock;
pub use liveperson_bridge_sandbox as sandbox;
pub use liveperson_bridge_web as web;
