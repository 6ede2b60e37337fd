//! Replicas that are killed (`SIGKILL`) every few seconds and started again at once.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Kills));
    while pass(seconds(&mut chance, 1.5..4.0), end).await {
        let mut replica = scene.replicas.choose(&mut chance).await;
        replica.kill().await;
        scene.tally.note("replicas killed");
        replica.start().await;
    }
}
