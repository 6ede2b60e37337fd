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

/// The state that all handlers share.
#[derive(Debug)]
pub struct AppState {
    /// The use cases of the bridge.
    pub bridge: Bridge,
    /// The requests to the Cloud.
    pub outbox: Outbox,
    /// The credentials and limits of the channels.
    pub access: Access,
    /// The receiver of the Cloud's notifications.
    pub receiver: Receiver,
    /// The bounds on work in progress.
    pub load: Load,
    /// The clock.
    pub clock: SharedClock,
    /// The metrics.
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
