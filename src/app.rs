//! The composition root: builds a listening service from a configuration.
//!
//! `serve`, `demo` and the tests all use it, so that the tests run the real service.

mod connections;
mod notifications;
mod refusals;
mod responses;
mod serving;
mod threads;
mod timekeeping;
mod unread;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::interval;

use crate::api::{self, Access, AppState, ChannelAccess, Load, ProtocolErrors};
use crate::bridge::{
    self, Bridge, DueCloses, DueNacks, DueTypingEnds, Parts, Retention, UserReaders,
};
use crate::clock::SharedClock;
use crate::cloud;
use crate::config::{self, Config};
use crate::delivery;
use crate::http;
use crate::lifecycle::{self, Lifecycle};
use crate::outbox::{DueLanes, Outbox};
use crate::store::{self, Store};
use crate::telemetry::metrics::Metrics;
use crate::types::audit::Actor;
use crate::types::ids::{ChannelId, ConversationId};
use crate::web::cross_site::HostNames;
use crate::webhooks::{
    ChannelScope, Inbox, Installation, Interpreter, Receiver, Rejections, SignedFileLinks,
    Subscription, Writer,
};
use crate::worker::{self, Source};
use connections::{Connections, IdleLimits};
pub use notifications::NotificationServer;
pub use threads::Threads;
pub(crate) use timekeeping::CLOCK_WRONG_FROM;
pub use timekeeping::Timekeeper;

/// 1,024: the limit of new conversations that wait for the inbox. If the queue is full, the inbox
/// finds the conversation a little later.
const MAX_WAITING_OPENINGS: usize = 1024;

/// 10 s: the interval at which idle users are forgotten. Each one takes only some bytes.
const FORGET_INTERVAL: Duration = Duration::from_secs(10);

/// The reason why the service could not be built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database is unavailable, belongs to another program, or could not be migrated.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The TLS configuration of the machine cannot be used.
    #[error("the HTTP client could not be created; check that the machine has root certificates")]
    Http(#[from] http::TlsSetupError),
}

/// The service, built and not yet listening.
#[derive(Debug)]
pub struct App {
    api: (Router, ProtocolErrors),
    admin: (Router, ProtocolErrors),
    readiness: api::admin::Readiness,
    store: Store,
    life: Lifecycle,
    pending_per_address: usize,
    threads: Threads,
}

/// The sockets on which the service listens.
#[derive(Debug)]
pub struct Listeners {
    /// The socket for channels and for the Cloud.
    pub api: TcpListener,
    /// The socket for operators.
    pub admin: TcpListener,
}

impl App {
    /// Connects to the database, migrates its schema and builds the service. The service
    /// follows the database's clock, as all of its replicas do.
    ///
    /// # Errors
    ///
    /// If the database cannot be used.
    pub async fn build(
        config: &Config,
        proxy: http::Proxy,
        life: Lifecycle,
    ) -> Result<Self, Error> {
        let store = Store::connect(&location(&config.database)).await?;
        let timekeeper = Timekeeper::begin(&store).await?;
        let clock = timekeeper.clock();
        life.spawn_until_stop(timekeeper.run());
        Self::wire(config, store, clock, proxy, life).await
    }

    /// Builds the service with another clock, such as one that a test moves.
    ///
    /// # Errors
    ///
    /// If the database cannot be used.
    pub async fn build_with_clock(
        config: &Config,
        clock: SharedClock,
        proxy: http::Proxy,
        life: Lifecycle,
    ) -> Result<Self, Error> {
        let store = Store::connect(&location(&config.database)).await?;
        Self::wire(config, store, clock, proxy, life).await
    }

    async fn wire(
        config: &Config,
        store: Store,
        clock: SharedClock,
        proxy: http::Proxy,
        life: Lifecycle,
    ) -> Result<Self, Error> {
        bridge::migrate(&store, Actor::Service, &*clock).await?;
        let metrics = Metrics::default();
        let (opened, openings) = mpsc::channel(MAX_WAITING_OPENINGS);
        let subscriptions = subscriptions(config);
        let storage = (store.clone(), metrics.clone());
        let rejections = Rejections::new(metrics.clone(), SharedClock::clone(&clock));
        let outputs = (subscriptions.clone(), rejections.clone());
        let (receiver, writer) = receiver(config, outputs, storage, &clock, openings);
        life.tasks().spawn(writer.run());
        life.tasks()
            .spawn(rejections.save(store.clone(), life.stopping_token()));
        let channels = channels(config);
        let access = access(config, &channels);
        life.spawn_until_stop(forget_idle_users(access.clone()));
        let bridge = Bridge::new(Parts {
            store: store.clone(),
            cloud: cloud(config, &clock, &metrics, proxy)?,
            keyring: config.encryption.keys.clone(),
            clock: SharedClock::clone(&clock),
            metrics: metrics.clone(),
            channels,
            subscriptions,
            opened,
            tasks: life.tasks().clone(),
            stopping: life.stopping_token(),
        });
        let upkeep = metrics.clone();
        life.spawn_until_stop(async move { upkeep.run_upkeep().await });
        let outbox = Outbox::new(bridge.clone());
        start_worker(&life, DueLanes(outbox.clone()));
        start_worker(&life, DueTypingEnds(bridge.clone()));
        for channel_id in bridge.parts.channels.keys() {
            start_worker(&life, UserReaders::new(bridge.clone(), channel_id.clone()));
        }
        start_worker(&life, DueNacks(bridge.clone()));
        start_worker(&life, DueCloses(bridge.clone()));
        start_worker(&life, Retention::new(bridge.clone(), config.retention));
        life.tasks().spawn(outbox.clone().wake_after_outages());
        let listener = store.clone();
        life.spawn_until_stop(async move { listener.listen().await });
        let parts = delivery::Parts {
            store: store.clone(),
            metrics: metrics.clone(),
            clock: SharedClock::clone(&clock),
            tasks: life.tasks().clone(),
            stopping: life.stopping_token(),
        };
        delivery::start(&parts, &callbacks(config), &config.allow_private_callbacks)?;
        let readiness = api::admin::Readiness::new(bridge.clone());
        let api_errors = ProtocolErrors::of_channels(SharedClock::clone(&clock), metrics.clone());
        let admin_errors = ProtocolErrors::of_operators(SharedClock::clone(&clock));
        let operators = SharedClock::clone(&clock);
        let api = api::router(AppState {
            bridge,
            outbox,
            access,
            receiver,
            load: load(config, &life),
            clock,
            metrics,
        });
        let keys = config.operator_keys.clone();
        let hosts = HostNames::new(config.admin_hosts.iter().cloned());
        let admin = api::admin::router(readiness.clone(), keys, hosts, operators);
        Ok(Self {
            api: (api, api_errors),
            admin: (admin, admin_errors),
            readiness,
            store,
            life,
            pending_per_address: config.pending_connections_per_address,
            threads: Threads::default(),
        })
    }

    /// Wraps the router of the API, for example to observe its requests.
    #[must_use]
    pub fn around_api(mut self, wrap: impl FnOnce(Router) -> Router) -> Self {
        let (api, errors) = self.api;
        self.api = (wrap(api), errors);
        self
    }

    /// Serves the connections of the API on these threads instead of the main thread alone.
    #[must_use]
    pub fn on_threads(mut self, threads: Threads) -> Self {
        self.threads = threads;
        self
    }

    /// Returns the store of the service.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Serves until the service is stopped. Returns true if everything finished in time.
    pub async fn serve(self, listeners: Listeners) -> bool {
        let Self {
            api: (api, api_errors),
            admin: (admin, admin_errors),
            readiness,
            store,
            life,
            pending_per_address,
            threads,
        } = self;
        let not_ready = {
            let life = life.clone();
            async move {
                life.stopping().await;
                readiness.stop();
            }
        };
        let (api, admin) = ((api, Some(api_errors)), (admin, Some(admin_errors)));
        let per_address = pending_per_address;
        let requests = serve_on(&threads, listeners.api, api, per_address, not_ready);
        let serving = async {
            // The probes respond until the last request has finished, since a load balancer watches
            // them.
            tokio::select! {
                () = requests => {}
                () = serve_until(listeners.admin, admin, per_address, std::future::pending()) => {}
            }
        };
        let in_time = life.finish(serving).await;
        lifecycle::close_in_time(store.close()).await;
        in_time
    }
}

/// Serves a router until `stop`. Then idle connections close. Requests in flight finish, and so do
/// those of clients that have just connected. With `errors`, requests that violate HTTP are
/// answered with problems. Each address may have `pending_per_address` connections on which no
/// complete head has arrived yet; 0 means no limit.
pub(crate) async fn serve_until(
    listener: TcpListener,
    service: (Router, Option<ProtocolErrors>),
    pending_per_address: usize,
    stop: impl Future<Output = ()>,
) {
    let current = Threads::default();
    serve_on(&current, listener, service, pending_per_address, stop).await;
}

/// Does the same as [`serve_until`], with the connections spread over several threads.
async fn serve_on(
    threads: &Threads,
    listener: TcpListener,
    (router, errors): (Router, Option<ProtocolErrors>),
    pending_per_address: usize,
    stop: impl Future<Output = ()>,
) {
    let connections = Connections::new(
        listener,
        connections::MAX_CONNECTIONS,
        IdleLimits::default(),
        stop,
    )
    .with_pending(pending_per_address);
    serving::serve(connections, router, errors, serving::HEAD_LIMIT, threads).await;
}

/// Starts background work. At a stop, work that has begun finishes.
fn start_worker(life: &Lifecycle, source: impl Source) {
    let stopping = life.stopping_token();
    life.tasks().spawn(worker::run(source, stopping));
}

/// Returns the location of the configured database.
#[must_use]
pub fn location(database: &config::Database) -> store::Location {
    match &database.url {
        Some(url) => store::Location::Postgres {
            url: url.clone(),
            schema: database.schema.clone(),
            max_connections: database.max_connections,
        },
        None => store::Location::Embedded {
            data_dir: database.data_dir.clone(),
        },
    }
}

/// Creates the client of the Cloud for the configured accounts.
///
/// # Errors
///
/// If the TLS configuration of the machine cannot be used.
pub fn cloud(
    config: &Config,
    clock: &SharedClock,
    metrics: &Metrics,
    proxy: http::Proxy,
) -> Result<cloud::Client, http::TlsSetupError> {
    let accounts = config.accounts.iter().map(|account| cloud::Account {
        id: account.account_id.clone(),
        client_id: account.client_id.clone(),
        client_secret: account.client_secret.clone(),
        domain_api: account.domain_api.clone(),
        allow_http_hosts: account.allow_http_hosts.clone(),
    });
    let http = http::Client::new(proxy)?;
    Ok(cloud::Client::new(&http, clock, metrics, accounts))
}

/// Creates the receiver of notifications and the writer that stores them.
fn receiver(
    config: &Config,
    (subscriptions, rejections): (HashMap<ChannelId, Subscription>, Rejections),
    (store, metrics): (Store, Metrics),
    clock: &SharedClock,
    opened: mpsc::Receiver<ConversationId>,
) -> (Receiver, Writer) {
    let scopes = config.channels.iter().map(|channel| ChannelScope {
        channel_id: channel.id.clone(),
        account_id: channel.account_id.clone(),
        namespace: channel.namespace.clone(),
    });
    let accounts = config.accounts.iter();
    let apps = accounts.map(|account| (account.account_id.clone(), account.client_id.clone()));
    let file_links = config.channels.iter().filter_map(|channel| {
        let links = SignedFileLinks {
            lifetime: channel.signed_file_links?,
            keys: config.encryption.keys.file_link_keys(channel.id.as_str()),
        };
        Some((channel.id.clone(), links))
    });
    let interpreter = Interpreter {
        subscriptions,
        scopes: scopes.collect(),
        apps: apps.collect(),
        public_url: config.public_url.clone(),
        signed_file_links: file_links.collect(),
        clock: SharedClock::clone(clock),
    };
    let (inbox, writer) = Inbox::new(
        store,
        SharedClock::clone(clock),
        metrics.clone(),
        interpreter,
        opened,
    );
    let installations = config.accounts.iter().map(|account| {
        let installation = Installation {
            client_id: account.client_id.clone(),
            client_secret: account.client_secret.clone(),
        };
        (account.account_id.clone(), installation)
    });
    let receiver = Receiver::new(
        inbox,
        metrics,
        SharedClock::clone(clock),
        rejections,
        installations.collect(),
    );
    (receiver, writer)
}

fn callbacks(config: &Config) -> Vec<delivery::Channel> {
    let channels = config.channels.iter();
    let callbacks = channels.filter_map(|channel| Some((channel, channel.callback.as_ref()?)));
    let callbacks = callbacks.map(|(channel, callback)| delivery::Channel {
        id: channel.id.clone(),
        url: callback.url.clone(),
        secrets: callback.secrets.clone(),
    });
    callbacks.collect()
}

/// Returns the events that each channel receives.
fn subscriptions(config: &Config) -> HashMap<ChannelId, Subscription> {
    let subscriptions = config.channels.iter().map(|channel| {
        let subscription = Subscription {
            events: channel.events.clone(),
            max_age: channel.callback.as_ref().map(|_| channel.max_age),
        };
        (channel.id.clone(), subscription)
    });
    subscriptions.collect()
}

/// Returns the channels as the use cases need them.
fn channels(config: &Config) -> HashMap<ChannelId, Arc<bridge::Channel>> {
    let channels = config.accounts.iter().flat_map(|account| {
        let channels = config.channels.iter();
        let of_account = channels.filter(|channel| channel.account_id == account.account_id);
        of_account.map(|channel| {
            let known = bridge::Channel {
                id: channel.id.clone(),
                account_id: channel.account_id.clone(),
                namespace: channel.namespace.clone(),
                defaults: channel.defaults.clone(),
                match_choices: channel.match_choices,
                max_request_chars: account.max_request_chars,
                max_file_bytes: account.max_file_bytes,
                file_types: account.file_types.clone(),
                max_queued: channel.limits.queued.into(),
                max_queued_per_user: channel.limits.queued_per_user.into(),
                deliver_for: channel.callback.as_ref().map(|_| channel.max_age),
            };
            (channel.id.clone(), Arc::new(known))
        })
    });
    channels.collect()
}

/// Returns the access rules of the channels.
fn access(config: &Config, known: &HashMap<ChannelId, Arc<bridge::Channel>>) -> Access {
    let channels = config.channels.iter().filter_map(|channel| {
        let limits = &channel.limits;
        Some(ChannelAccess {
            channel: Arc::clone(known.get(&channel.id)?),
            keys: channel.api_keys.clone(),
            jwt_keys: channel.jwt_keys.clone(),
            cors_origins: channel.cors_origins.clone(),
            file_link_keys: channel
                .signed_file_links
                .map(|_| config.encryption.keys.file_link_keys(channel.id.as_str())),
            limits: api::Limits::new(
                limits.requests_per_second,
                limits.per_user_requests_per_second,
            ),
        })
    });
    Access::new(channels.collect())
}

/// Creates the bounds on the work in progress.
fn load(config: &Config, life: &Lifecycle) -> Load {
    let (channels, accounts) = (config.channels.len(), config.accounts.len());
    Load::new(channels, accounts, life.stopping_token())
}

/// Forgets idle users at intervals, forever.
async fn forget_idle_users(access: Access) {
    let mut ticks = interval(FORGET_INTERVAL);
    loop {
        ticks.tick().await;
        access.forget_idle_users();
    }
}
