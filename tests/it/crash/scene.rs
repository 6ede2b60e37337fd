//! The stage: a database server, two replicas behind a balancer, the simulated Cloud, and the channel's callback.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use liveperson_bridge::sandbox::Sandbox;
use liveperson_bridge::store::Location;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::time::interval;

use super::agents::Agent;
use super::callbacks::Callbacks;
use super::settings::Settings;
use super::users::User;
use crate::support::channel::Channel;
use crate::support::cloud::Cloud;
use crate::support::configuration::{SMS_KEY, bridge_toml, with_callback};
use crate::support::patience::eventually;
use crate::support::postgres::Server;
use crate::support::process::Process;
use crate::support::receiver::{Receiver, SECRET};
use crate::support::wire::Wire;

/// How many replicas there are.
pub(super) const REPLICAS: usize = 2;

/// 5 min: a message that fails several times in a row waits a minute and more for its next try.
const DRAIN_LIMIT: Duration = Duration::from_mins(5);

/// 100 ms: how often it is looked whether everything is drained; looking is work for the replicas too.
const LOOK: Duration = Duration::from_millis(100);

/// All that stands on the stage.
pub(super) struct Scene {
    pub(super) settings: Settings,
    pub(super) server: Server,
    pub(super) sandbox: Sandbox,
    /// From the replicas to the Cloud.
    pub(super) to_cloud: Wire,
    /// From the replicas to the callback.
    pub(super) to_callback: Wire,
    /// From the channel and the Cloud to the replicas.
    balancer: Wire,
    receiver: Receiver,
    pub(super) callbacks: Callbacks,
    /// The channel, which calls through the balancer.
    pub(super) channel: Channel,
    toml: String,
    replicas: Mutex<Vec<Option<Process>>>,
    /// What the replicas that were killed had logged.
    logs: Mutex<Vec<String>>,
}

impl Scene {
    /// Sets the stage, with everything in order.
    pub(super) async fn set(settings: Settings) -> Self {
        let server = tokio::task::block_in_place(Server::start);
        let cloud = Cloud::start_on_system_time().await;
        let to_cloud = Wire::to(&[cloud.url.strip_prefix("http://").unwrap()]).await;
        let (callbacks, receiver) = Callbacks::start(settings.chance(1)).await;
        let address = receiver.url.strip_prefix("http://").unwrap();
        let (address, path) = address.split_once('/').unwrap();
        let to_callback = Wire::to(&[address]).await;
        let location = Location::Postgres {
            url: server.url().into(),
            max_connections: 16,
        };
        let toml = bridge_toml(&location, &format!("http://{}", to_cloud.address()));
        let callback_url = format!("http://{}/{path}", to_callback.address());
        let toml = with_callback(&toml, &callback_url, &format!("{SECRET:?}"));
        let balancer = Wire::to(&["not yet"; REPLICAS]).await;
        let channel = Channel::new(&format!("http://{}", balancer.address()), SMS_KEY);
        cloud.hear(&channel);
        let scene = Self {
            channel,
            settings,
            server,
            sandbox: cloud.sandbox,
            to_cloud,
            to_callback,
            balancer,
            receiver,
            callbacks,
            toml,
            replicas: Mutex::new((0..REPLICAS).map(|_| None).collect()),
            logs: Mutex::default(),
        };
        for place in 0..REPLICAS {
            scene.start_replica(place).await;
        }
        scene
    }

    /// A user and the agent who answers.
    pub(super) fn cast(&self, number: u32) -> (User, Agent) {
        let (known, conversation) = tokio::sync::watch::channel(None);
        let id = format!("user-{number}");
        let pace = self.settings.pace();
        let part = 10 + 2 * u64::from(number);
        let agent = Agent {
            user_id: id.clone(),
            sandbox: self.sandbox.clone(),
            chance: self.settings.chance(part),
            pace: pace * 4,
            conversation,
        };
        let user = User {
            id,
            channel: self.channel.clone(),
            chance: self.settings.chance(part + 1),
            pace,
            conversation: known,
            said: Vec::new(),
            complaints: Vec::new(),
        };
        (user, agent)
    }

    /// Kills a replica in the middle of whatever it does.
    pub(super) async fn kill_replica(&self, place: usize) {
        let process = self.replicas.lock().unwrap()[place].take().unwrap();
        self.balancer.lead(place, None);
        let log = format!("replica {place}\n{}", process.log());
        self.logs.lock().unwrap().push(log);
        process.kill().await;
    }

    /// Starts a replica, again and again where it finds no database.
    pub(super) async fn start_replica(&self, place: usize) {
        let (process, channel) =
            eventually("a replica starts", async || {
                match Process::try_serve(&self.toml).await {
                    Ok((process, channel, _)) => Some((process, channel)),
                    Err(log) => {
                        let log = format!("replica {place}, which ended\n{log}");
                        self.logs.lock().unwrap().push(log);
                        None
                    }
                }
            })
            .await;
        self.balancer.lead(place, Some(channel.address()));
        self.replicas.lock().unwrap()[place] = Some(process);
    }

    /// Waits until all is done that is still to be done; how long that took, none where it did not end.
    pub(super) async fn drain(&self) -> Option<Duration> {
        let begun = Instant::now();
        let _unstruck = self.sandbox.withdraw_faults();
        self.callbacks.be_kind(&self.receiver);
        let mut looks = interval(LOOK);
        while begun.elapsed() < DRAIN_LIMIT {
            looks.tick().await;
            self.sandbox.release_notifications();
            if self.is_drained().await {
                return Some(begun.elapsed());
            }
        }
        None
    }

    /// What is sent makes notifications, and those make callbacks: so it is looked in this order.
    async fn is_drained(&self) -> bool {
        let mut connection = PgConnection::connect(&self.server.url()).await.unwrap();
        let unsettled: i64 =
            sqlx::query_scalar("SELECT count(*) FROM requests WHERE settled_at IS NULL")
                .fetch_one(&mut connection)
                .await
                .unwrap();
        if unsettled > 0 || self.sandbox.pending_notifications() > 0 {
            return false;
        }
        let pending = self.channel.get("/v1/deliveries?state=pending&limit=1");
        let pending = pending.await;
        pending.status == 200 && pending.body["deliveries"] == json!([])
    }

    /// Writes down what all replicas have logged, and the latest tries of the Cloud to tell something; where.
    pub(super) fn keep_logs(&self) -> String {
        let mut logs = self.logs.lock().unwrap().clone();
        for process in self.replicas.lock().unwrap().iter().flatten() {
            logs.push(format!("a replica at the end\n{}", process.log()));
        }
        let folder = TempDir::with_prefix("liveperson-bridge-crash-logs.").unwrap();
        let folder = folder.keep();
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
