//! The clock of one replica, stepped ahead or back by minutes or a day, and set right after a
//! while.

use std::sync::Arc;
use std::time::Instant;

use rand::seq::IndexedRandom as _;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

/// Offsets in seconds: longer than any lease and than the wait for an echo. The largest exceed the
/// lifetime of a queued message.
const STEPS: [&str; 6] = ["+90", "-90", "+600", "-600", "+86400", "-86400"];

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Clocks));
    while pass(seconds(&mut chance, 3.0..10.0), end).await {
        let offset = STEPS.choose(&mut chance).unwrap();
        let clock = scene.replicas.choose_clock(&mut chance);
        clock.set(offset);
        scene.tally.note("clocks stepped");
        pass(seconds(&mut chance, 5.0..20.0), end).await;
        clock.set("+0");
        scene.tally.note("clocks set right");
    }
}
