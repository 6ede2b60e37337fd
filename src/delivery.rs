//! Deliveries of events to channels' callbacks: signed, in order for each user, and repeated until
//! they arrive or grow too old.
//!
//! Each channel has its own dispatcher in each replica (`dispatcher`). It claims delivery lanes
//! that are due from the store and processes each one in a task of its own (`lane`), so that
//! neither channels nor users block each other. Requests are signed ([`sign`]). Their target is
//! checked at the address that the client connects to ([`target`]). `attempt` interprets the
//! response, and [`schedule`] computes the time of the next attempt. The store has the events, the
//! leases of the lanes, and the state of each callback as all replicas see it.

mod attempt;
mod check;
mod dispatcher;
mod lane;
pub mod schedule;
mod shared;
pub mod sign;
pub mod target;

use std::fmt;

use ipnet::IpNet;
use secrecy::SecretSlice;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock::SharedClock;
use crate::http;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::types::ids::ChannelId;
use crate::worker::run;
use attempt::Callback;
use check::warn_if_refused;
pub use check::{Unreachable, check};
use dispatcher::{Dispatcher, OldEvents};
use target::{Resolver, Rules};

/// A channel with a callback.
pub struct Channel {
    /// The channel's id.
    pub id: ChannelId,
    /// The URL that receives each event in a `POST`.
    pub url: Url,
    /// The secrets that sign each event.
    pub secrets: Vec<SecretSlice<u8>>,
}

impl fmt::Debug for Channel {
    /// Shows only the host, since the rest of a URL may hold a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// The dependencies of deliveries.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The store of the events and their lanes.
    pub store: Store,
    /// The metrics.
    pub metrics: Metrics,
    /// The clock.
    pub clock: SharedClock,
    /// The tracker of dispatchers and deliveries, which finish before the process ends.
    pub tasks: TaskTracker,
    /// Cancelled when nothing new may begin.
    pub stopping: CancellationToken,
}

/// Starts deliveries to these channels, until `parts.stopping` is cancelled. `allowed` lists the
/// private networks in which callbacks may be.
///
/// # Errors
///
/// If the TLS configuration of the machine cannot be used.
pub fn start(
    parts: &Parts,
    channels: &[Channel],
    allowed: &[IpNet],
) -> Result<(), http::TlsSetupError> {
    let rules = Rules::new(allowed);
    let http = http::Client::for_callbacks(Resolver::new(rules.clone()))?;
    for channel in channels {
        let clock = SharedClock::clone(&parts.clock);
        let callback = Callback::new(http.clone(), rules.clone(), channel, clock);
        let dispatcher = Dispatcher::start(parts.clone(), channel.id.clone(), callback);
        let stopping = parts.stopping.clone();
        parts.tasks.spawn(run(dispatcher, stopping));
        let address = warn_if_refused(rules.clone(), channel.id.clone(), channel.url.clone());
        let stopping = parts.stopping.clone();
        parts.tasks.spawn(async move {
            stopping.run_until_cancelled(address).await;
        });
    }
    // This task runs even if no channel has a callback any more, since pending events must expire.
    let old_events = OldEvents(parts.clone());
    parts.tasks.spawn(run(old_events, parts.stopping.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_a_channel_shows_only_its_id_and_host() {
        let channel = Channel {
            id: "sms".parse().unwrap(),
            url: "https://name:pa55word@host.example/t0ken?key=t0ken"
                .parse()
                .unwrap(),
            secrets: vec![b"secret-of-24-bytes-at-le".to_vec().into()],
        };

        let shown = format!("{channel:?}");

        assert_eq!(
            shown,
            r#"Channel { id: ChannelId("sms"), host: Some("host.example"), .. }"#
        );
    }
}
