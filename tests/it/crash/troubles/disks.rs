//! A disk of the database that is full for a while.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Disks));
    let disk = scene.storage.disk();
    while pass(seconds(&mut chance, 8.0..20.0), end).await {
        let _turn = scene.storage.hold().await;
        disk.fill();
        scene.tally.note("disks full");
        pass(seconds(&mut chance, 2.0..8.0), end).await;
        disk.free();
        scene.storage.revive();
    }
}
