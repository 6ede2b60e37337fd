//! A disk of the database that is full for a while.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Disks));
    let disk = scene.storage.disk();
    while wait(seconds(&mut rng, 8.0..20.0), end).await {
        let _lock = scene.storage.lock().await;
        disk.fill();
        scene.tally.increment("disks full");
        wait(seconds(&mut rng, 2.0..8.0), end).await;
        disk.free();
        scene.storage.restart_if_ended();
    }
}
