//! The state of the handlers.

use std::sync::Arc;

use axum::extract::FromRef;

use super::auth::Access;
use super::load::Load;
use crate::bridge::Bridge;
use crate::clock::SharedClock;
use crate::outbox::Outbox;
use crate::telemetry::metrics::Metrics;
use crate::webhooks::Receiver;

/// The state of the handlers, which share one.
#[derive(Debug)]
pub struct AppState {
    /// The use cases.
    pub bridge: Bridge,
    /// Does what waits for the Cloud.
    pub outbox: Outbox,
    /// Who may ask what.
    pub access: Access,
    /// Takes what the Cloud tells.
    pub receiver: Receiver,
    /// What is under way.
    pub load: Load,
    /// The time.
    pub clock: SharedClock,
    /// What is counted.
    pub metrics: Metrics,
}

impl FromRef<Arc<AppState>> for Bridge {
    fn from_ref(state: &Arc<AppState>) -> Self {
        state.bridge.clone()
    }
}

impl FromRef<Arc<AppState>> for Outbox {
    fn from_ref(state: &Arc<AppState>) -> Self {
        state.outbox.clone()
    }
}

impl FromRef<Arc<AppState>> for Receiver {
    fn from_ref(state: &Arc<AppState>) -> Self {
        state.receiver.clone()
    }
}

impl FromRef<Arc<AppState>> for Load {
    fn from_ref(state: &Arc<AppState>) -> Self {
        state.load.clone()
    }
}
