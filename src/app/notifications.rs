//! A server of the Cloud's webhooks alone, for commands that listen while no service runs.

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::{load, receiver, serve_until, subscriptions};
use crate::api::{self, ProtocolErrors};
use crate::clock::SharedClock;
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::webhooks::Rejections;

/// A server of the Cloud's webhooks alone. It stores notifications as the service does, so that the
/// service finds them when it starts later.
#[derive(Debug)]
pub struct NotificationServer {
    router: Router,
    errors: ProtocolErrors,
    pending_per_address: usize,
}

impl NotificationServer {
    /// Creates the server and its tasks. One task stores notifications for as long as the server
    /// lives. The other saves rejections until `life` ends.
    #[must_use]
    pub fn new(config: &Config, store: &Store, clock: &SharedClock, life: &Lifecycle) -> Self {
        let metrics = Metrics::default();
        // No conversation is opened here.
        let (_, openings) = mpsc::channel(1);
        let storage = (store.clone(), metrics.clone());
        let rejections = Rejections::new(metrics.clone(), SharedClock::clone(clock));
        let outputs = (subscriptions(config), rejections.clone());
        let (receiver, writer) = receiver(config, outputs, storage, clock, openings);
        life.tasks().spawn(writer.run());
        life.tasks()
            .spawn(rejections.save(store.clone(), life.stopping_token()));
        let errors = ProtocolErrors::of_channels(SharedClock::clone(clock), metrics.clone());
        let load = load(config, life);
        let router = api::webhooks_router(receiver, load, SharedClock::clone(clock), metrics);
        Self {
            router,
            errors,
            pending_per_address: config.pending_connections_per_address,
        }
    }

    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) {
        let service = (self.router, Some(self.errors));
        serve_until(listener, service, self.pending_per_address, stop).await;
    }
}
