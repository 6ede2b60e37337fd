//! The clock of one replica, stepped ahead or back by minutes or a day, and set right after a
//! while.

use std::sync::Arc;
use std::time::Instant;

use rand::seq::IndexedRandom as _;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

/// Offsets in seconds: longer than any lease and than the wait for an echo. The largest exceed the
/// lifetime of a queued message.
const STEPS: [&str; 6] = ["+90", "-90", "+600", "-600", "+86400", "-86400"];

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Clocks));
    while wait(seconds(&mut rng, 3.0..10.0), end).await {
        let offset = STEPS.choose(&mut rng).unwrap();
        let clock = scene.replicas.choose_clock(&mut rng);
        clock.set(offset);
        scene.tally.increment("clocks stepped");
        wait(seconds(&mut rng, 5.0..20.0), end).await;
        clock.set("+0");
        scene.tally.increment("clocks set right");
    }
}
