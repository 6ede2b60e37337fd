//! Replicas that are frozen (`SIGSTOP`) for longer than their leases and resumed (`SIGCONT`).

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Freezes));
    while pass(seconds(&mut chance, 5.0..25.0), end).await {
        let replica = scene.replicas.choose(&mut chance).await;
        replica.freeze().await;
        scene.tally.note("replicas frozen for 14 to 40 s");
        pass(seconds(&mut chance, 14.0..40.0), end).await;
        replica.thaw().await;
    }
}
