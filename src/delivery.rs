//! Bringing events to channels' callback URLs: signed, in each user's order, again until they arrive or grow too old.
//!
//! Each channel has a dispatcher of its own in each replica (`dispatcher`), which takes lanes that are due from the store
//! and works on each in a task of its own (`lane`), so that neither channels nor users wait for each other. What is
//! sent is signed ([`sign`]), where it may go is checked at the address that is connected to ([`target`]), what an answer
//! means is said in `attempt`, and when the next try is due in [`schedule`]. Which events there are, who holds a lane, and
//! how a callback fares over all replicas is the store's.

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
pub use check::{Unreachable, check};
use dispatcher::{Dispatcher, OldEvents};
use target::{Resolver, Rules};

/// A channel with a callback.
pub struct Channel {
    /// The channel.
    pub id: ChannelId,
    /// The URL that takes each event in a `POST`.
    pub url: Url,
    /// What each event is signed with.
    pub secrets: Vec<SecretSlice<u8>>,
}

impl fmt::Debug for Channel {
    /// Shows the host alone, since the rest of a URL may hold a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id)
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// What deliveries work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The events and their lanes.
    pub store: Store,
    /// What is counted.
    pub metrics: Metrics,
    /// The time.
    pub clock: SharedClock,
    /// Holds dispatchers and deliveries, which finish before the process ends.
    pub tasks: TaskTracker,
    /// Tells that nothing new is to be begun.
    pub stopping: CancellationToken,
}

/// Begins to deliver to these channels, until the parts say stop. `allowed` are inner networks that may be called.
///
/// # Errors
///
/// When the TLS set-up of the machine cannot be used.
pub fn start(parts: &Parts, channels: &[Channel], allowed: &[IpNet]) -> Result<(), http::Unusable> {
    let rules = Rules::new(allowed);
    let http = http::Client::for_callbacks(Resolver::new(rules.clone()))?;
    for channel in channels {
        let clock = SharedClock::clone(&parts.clock);
        let callback = Callback::new(http.clone(), rules.clone(), channel, clock);
        let dispatcher = Dispatcher::new(parts.clone(), channel.id.clone(), callback);
        let stopping = parts.stopping.clone();
        parts.tasks.spawn(run(dispatcher, stopping));
    }
    // Also where no channel has a callback any more: what was pending then ends as well.
    let old = OldEvents(parts.clone());
    parts.tasks.spawn(run(old, parts.stopping.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_shows_neither_its_secret_nor_what_its_url_holds() {
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
