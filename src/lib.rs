//! Connects messaging channels to LivePerson's Conversational Cloud.
//!
//! A channel's request comes in at [`api`], becomes a use case of [`bridge`], which looks the user up in the [`store`]
//! and speaks to the Cloud through [`cloud`]. What channels are to hear of waits in the store until [`delivery`] has
//! brought it to them. [`app`] puts the parts together and [`cli`] starts them; [`sandbox`] is a simulated Cloud that
//! shares nothing with the client, so that each checks the other.
//!
//! Imports go one way, and `tests/it/house.rs` holds them to it:
//!
//! | module | may use |
//! | --- | --- |
//! | `types`, `clock` | nothing but `types` |
//! | `telemetry`, `crypto`, `lifecycle`, `negotiation`, `cross_site`, `bounds` | nothing |
//! | `config` | `types`, `crypto` |
//! | `http`, `media` | `types` |
//! | `cloud` | `http`, `types`, `clock`, `telemetry` |
//! | `store` | `crypto`, `types` |
//! | `bridge` | `cloud`, `store`, `media`, `bounds`, `crypto`, `types`, `clock`, `telemetry` |
//! | `outbox` | `bridge` |
//! | `webhooks` | `store`, `types`, `clock`, `telemetry` |
//! | `delivery` | `store`, `http`, `crypto`, `types`, `clock`, `telemetry` |
//! | `api` | `bridge`, `webhooks`, `bounds`, `crypto`, `negotiation`, `cross_site`, `types`, `clock`, `telemetry`, and the words of `cloud` and `store` that `bridge` answers with |
//! | `sandbox` | `clock`, `negotiation`, `cross_site` |
//! | `app`, `cli` | everything |

pub mod api;
pub mod app;
pub mod bounds;
pub mod bridge;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod cross_site;
pub mod crypto;
pub mod delivery;
pub mod http;
pub mod lifecycle;
pub mod media;
pub mod negotiation;
pub mod outbox;
pub mod sandbox;
pub mod store;
pub mod telemetry;
pub mod types;
pub mod webhooks;
