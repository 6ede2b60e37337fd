//! Connects messaging channels to LivePerson's Conversational Cloud.
//!
//! A channel's request comes in at [`api`] and goes through the [`outbox`], which does it in the user's conversation
//! ([`bridge`]), as the [`store`] has it, and speaks to the Cloud through [`cloud`]. What the Cloud tells comes in at
//! [`webhooks`]. What channels are to hear of waits in the store until [`delivery`] has brought it to them. [`app`] puts the parts together and [`cli`] starts them; [`sandbox`] is a simulated Cloud that
//! shares nothing with the client, so that each checks the other.
//!
//! `clock`, `web` and `sandbox` are crates of their own, in `crates`.
//!
//! Imports go one way, and `tests/it/house.rs` holds them to it:
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
//! | `webhooks` | `store`, `types`, `clock`, `telemetry` |
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
