//! The service in this process, with the simulated Cloud and a database of its own.

use std::sync::Arc;

use chrono::TimeDelta;
use liveperson_bridge::app::{App, Listeners};
use liveperson_bridge::clock::SharedClock;
use liveperson_bridge::config::{self, Environment};
use liveperson_bridge::http::Proxy;
use liveperson_bridge::lifecycle::Lifecycle;
use liveperson_bridge::store::{PageSize, Store};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::channel::{Channel, Reply};
use super::cloud::Cloud;
use super::configuration::{SMS_KEY, bridge_toml};
use super::database::{Database, Engine};
use super::patience::eventually;

/// A running service.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) cloud: Cloud,
    pub(crate) database: Database,
    /// The channel `sms`.
    pub(crate) sms: Channel,
    /// A client of the admin address.
    pub(crate) admin: Channel,
    store: Store,
    life: Lifecycle,
    serving: JoinHandle<bool>,
}

impl TestApp {
    pub(crate) async fn start(engine: Engine) -> Self {
        Self::start_with(Cloud::start().await, Database::create(engine).await).await
    }

    /// Starts a service with an existing Cloud and database.
    pub(crate) async fn start_with(cloud: Cloud, database: Database) -> Self {
        Self::start_configured(cloud, database, |toml| toml).await
    }

    /// Starts a service with the configuration that `change` returns.
    pub(crate) async fn start_configured(
        cloud: Cloud,
        database: Database,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let clock = Arc::clone(&cloud.clock) as SharedClock;
        Self::start_with_clock(clock, cloud, database, change).await
    }

    /// Starts a service with a clock other than the Cloud's.
    pub(crate) async fn start_with_clock(
        clock: SharedClock,
        cloud: Cloud,
        database: Database,
        change: impl FnOnce(String) -> String,
    ) -> Self {
        let toml = change(bridge_toml(&database.location, &cloud.url));
        let config = config::parse("test.toml", &toml, &Environment::new()).unwrap();
        let life = Lifecycle::default();
        let app = App::build_with_clock(&config, clock, Proxy::None, life.clone())
            .await
            .unwrap();
        let store = app.store().clone();
        let listeners = Listeners {
            api: TcpListener::bind(config.listen).await.unwrap(),
            admin: TcpListener::bind(config.admin_listen).await.unwrap(),
        };
        let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let sms = Channel::new(&url(&listeners.api), SMS_KEY);
        let admin = Channel::new(&url(&listeners.admin), "none");
        let serving = tokio::task::spawn(app.serve(listeners));
        Self {
            cloud,
            database,
            sms,
            admin,
            store,
            life,
            serving,
        }
    }

    /// Returns the service's store, which tests use like another replica.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Makes the simulated Cloud notify the service.
    pub(crate) fn subscribe_to_the_cloud(&self) {
        self.cloud.subscribe(&self.sms);
    }

    /// Returns a channel's event log from its beginning.
    pub(crate) async fn event_log(&self, channel: &str) -> Vec<Value> {
        let channel = channel.parse().unwrap();
        let page = self
            .store
            .events_after(&channel, 0, PageSize::events(1000))
            .await;
        let events = page.unwrap().events.into_iter();
        events
            .map(|event| serde_json::from_str(&event.body).unwrap())
            .collect()
    }

    /// Checks that a request was queued. Then advances the clock in small steps until the request
    /// has this status.
    pub(crate) async fn wait_until(&self, queued: Reply, status: &str) -> Value {
        let location = queued.headers["location"].to_str().unwrap().to_owned();
        queued.expect(202);
        self.wait_for_status(&location, status).await
    }

    /// Advances the clock until the request at this location has this status.
    pub(crate) async fn wait_for_status(&self, location: &str, status: &str) -> Value {
        eventually(status, async || {
            let shown = self.sms.get(location).await.expect(200);
            if shown["status"] == status {
                return Some(shown);
            }
            self.cloud.clock.advance(TimeDelta::milliseconds(200));
            None
        })
        .await
    }

    /// Stops the service. Returns true if everything finished in time.
    pub(crate) async fn stop(self) -> (Cloud, Database, bool) {
        self.life.stop();
        let in_time = self.serving.await.unwrap();
        (self.cloud, self.database, in_time)
    }
}
