//! The programs of a run: a database, replicas behind a balancer, the simulated Cloud, and the
//! channel's callback. The networks between them can be cut and can go silent.

use std::time::{Duration, Instant};

use liveperson_bridge::sandbox::Sandbox;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, watch};
use tokio::time::{interval, sleep_until};

use super::agents::Agent;
use super::callbacks::Callbacks;
use super::parts::Part;
use super::recording::Recording;
use super::replicas::Replicas;
use super::settings::{RngStream, Settings};
use super::storage::Storage;
use super::tally::Tally;
use super::users::User;
use crate::support::channel::Channel;
use crate::support::cloud::Cloud;
use crate::support::configuration::{SMS_KEY, bridge_toml, with_callback};
use crate::support::database::Engine;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::relay::Relay;
use crate::support::wire::Wire;

/// 5 min: a message that fails several times in a row waits a minute or more for its next attempt.
const DRAIN_LIMIT: Duration = Duration::from_mins(5);

/// 100 ms: the interval of the checks for remaining work; the checks put load on the replicas too.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);

/// 1 s: the interval at which echoes are recorded, long before the sandbox forgets them.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// A limit on queued requests. Without it, an hour with constant faults at the Cloud would leave an
/// hour of work at the end.
const LIMITS: &str = "[channels.limits]\nper_user_queued_requests = 10\n";

/// The defaults of an opening that allow a survey after the conversation.
const DEFAULTS: &str = "[channels.defaults]\nskill_id = \"2736637412\"\n\
                        features = [\"RICH_CONTENT\", \"QUICK_REPLIES\", \"MULTI_DIALOG\"]\n";

/// All programs and records of a run.
pub(super) struct Scene {
    pub(super) settings: Settings,
    pub(super) replicas: Replicas,
    pub(super) storage: Storage,
    pub(super) sandbox: Sandbox,
    /// Between the replicas and the database; `None` for a database inside the replica's process.
    pub(super) to_storage: Option<Relay>,
    /// Between the replicas and the Cloud.
    pub(super) to_cloud: Relay,
    /// Between the replicas and the callback.
    pub(super) to_callback: Relay,
    receiver: Receiver,
    pub(super) callbacks: Callbacks,
    /// The channel, which sends its requests through the balancer.
    pub(super) channel: Channel,
    pub(super) tally: Tally,
    pub(super) recording: Recording,
    /// Held while delayed notifications must not be released.
    pub(super) delay_lock: Mutex<()>,
}

impl Scene {
    /// Starts all programs, without faults.
    pub(super) async fn start(settings: Settings) -> Self {
        let storage = Storage::create(&settings).await;
        let to_storage = match storage.address() {
            Some(address) => Some(Relay::start(address).await),
            None => None,
        };
        let address = to_storage.as_ref().map(Relay::address);
        let location = storage.location(&address.unwrap_or_default());

        let cloud = Cloud::start_on_system_time().await;
        let address = cloud.url.strip_prefix("http://").unwrap();
        let to_cloud = Relay::start(address.to_owned()).await;

        let fails = settings.has(Part::Callbacks);
        let rng = fails.then(|| settings.rng(RngStream::Callback));
        let (callbacks, receiver) = Callbacks::start(rng).await;
        let address = receiver.url.strip_prefix("http://").unwrap();
        let (address, path) = address.split_once('/').unwrap();
        let to_callback = Relay::start(address.to_owned()).await;

        let toml = bridge_toml(&location, &format!("http://{}", to_cloud.address()));
        let callback_url = format!("http://{}/{path}", to_callback.address());
        let mut toml = with_callback(&toml, &callback_url, &format!("{SECRET:?}"));
        let key = format!("api_keys = [\"{SMS_KEY}\"]\n");
        let has_surveys = settings.has(Part::Surveys);
        let defaults = if has_surveys { DEFAULTS } else { "" };
        toml = toml.replace(&key, &format!("{key}{LIMITS}{defaults}"));
        let count = match settings.engine {
            Engine::Postgres => 2,
            Engine::Sqlite => 1,
        };
        let balancer = Wire::to(&vec!["not yet"; count]).await;
        let channel = Channel::new(&format!("http://{}", balancer.address()), SMS_KEY);
        cloud.subscribe(&channel);
        let with_clocks = settings.has(Part::Clocks);
        Self {
            replicas: Replicas::start(toml, balancer, count, with_clocks).await,
            settings,
            storage,
            sandbox: cloud.sandbox,
            to_storage,
            to_cloud,
            to_callback,
            receiver,
            callbacks,
            channel,
            tally: Tally::default(),
            recording: Recording::default(),
            delay_lock: Mutex::default(),
        }
    }

    /// Creates a user and the agent who answers.
    pub(super) fn create_user(&self, number: u32) -> (User, Agent) {
        let settings = &self.settings;
        let (assign, assignment) = watch::channel(None);
        let agent = Agent {
            sandbox: self.sandbox.clone(),
            mix: settings.mix.clone(),
            rng: settings.rng(RngStream::Agent(number)),
            pace: settings.pace() * 4,
            assignment,
        };
        let user = User {
            number,
            channel: self.channel.clone(),
            mix: settings.mix.clone(),
            plan: settings.rng(RngStream::User(number)),
            wait_rng: settings.rng(RngStream::Wait(number)),
            pace: settings.pace(),
            assignment: assign,
        };
        (user, agent)
    }

    /// Records the Cloud's echoes until the end.
    pub(super) async fn record_until(&self, end: Instant) {
        let mut ticks = interval(RECORD_INTERVAL);
        while Instant::now() < end {
            ticks.tick().await;
            self.record();
        }
    }

    fn record(&self) {
        self.recording.record(&self.sandbox);
        // The callbacks have recorded all that they need.
        self.receiver.forget();
    }

    /// Waits until no work is left. Returns the time that it took, or `None` after the limit.
    pub(super) async fn drain(&self) -> Option<Duration> {
        let begun = Instant::now();
        let _withdrawn = self.sandbox.withdraw_faults();
        self.sandbox.withdraw_disturbances();
        self.callbacks.stop_failing(&self.receiver);
        let mut ticks = interval(DRAIN_INTERVAL);
        while begun.elapsed() < DRAIN_LIMIT {
            ticks.tick().await;
            self.sandbox.release_notifications();
            self.sandbox.retry_now();
            self.record();
            if self.is_drained().await {
                return Some(begun.elapsed());
            }
        }
        None
    }

    /// True if no work is left. A sent request leads to notifications, and those lead to events, so
    /// the checks run in this order.
    async fn is_drained(&self) -> bool {
        let unsettled = self.storage.unsettled().await;
        if unsettled.unwrap_or(1) > 0 || self.sandbox.pending_notifications() > 0 {
            return false;
        }
        let pending = self.channel.get("/v1/deliveries?state=pending&limit=1");
        let pending = pending.await;
        pending.status == 200 && pending.body["deliveries"] == json!([])
    }

    /// Writes the replicas' logs and the latest notification attempts to a folder, and returns its
    /// path.
    pub(super) async fn save_logs(&self) -> String {
        let folder = TempDir::with_prefix("liveperson-bridge-crash-logs.").unwrap();
        let folder = folder.keep();
        let logs = self.replicas.logs().await;
        std::fs::write(folder.join("replicas.log"), logs.join("\n\n")).unwrap();
        let notifications = self.sandbox.notifications().into_iter().map(|it| {
            let (at, attempt, status) = (it.at.to_rfc3339(), it.attempt, it.status);
            format!("{at} attempt {attempt}: {status:?} {}\n", it.body)
        });
        let notifications: String = notifications.collect();
        std::fs::write(folder.join("notifications.log"), notifications).unwrap();
        folder.display().to_string()
    }
}

/// Waits for `pause`, but not beyond `end`. Returns false at the end.
pub(super) async fn wait(pause: Duration, end: Instant) -> bool {
    let until = end.min(Instant::now() + pause);
    sleep_until(until.into()).await;
    Instant::now() < end
}
