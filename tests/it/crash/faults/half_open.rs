//! Networks that pass no data for a while without closing connections, like a router that has
//! forgotten them.

use std::sync::Arc;
use std::time::Instant;

use rand::RngExt as _;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;
use crate::support::relay::Relay;

/// A network: the name of its count, and its relay if there is one.
type Network = (&'static str, fn(&Scene) -> Option<&Relay>);

const NETWORKS: [Network; 3] = [
    ("network to the database silent", |scene| {
        scene.to_storage.as_ref()
    }),
    ("network to the Cloud silent", |scene| Some(&scene.to_cloud)),
    ("network to the callback silent", |scene| {
        Some(&scene.to_callback)
    }),
];

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::HalfOpen));
    while wait(seconds(&mut rng, 4.0..16.0), end).await {
        let (name, network) = NETWORKS[rng.random_range(0..NETWORKS.len())];
        let Some(relay) = network(&scene) else {
            continue;
        };
        relay.silence();
        scene.tally.increment(name);
        // Most silences are shorter than the wait for an echo, some are longer.
        let is_long = rng.random_ratio(1, 5);
        let silence = if is_long { 8.0..20.0 } else { 2.0..8.0 };
        wait(seconds(&mut rng, silence), end).await;
        // Afterwards the held data arrives, or the connections turn out to be dead.
        if rng.random_bool(0.5) {
            relay.cut();
        }
        relay.pass();
    }
}
