//! A database that crashes in the middle of its work and starts again after a while; `fsync` is on.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

/// Crashes the database about once a minute, first after half a minute or half of the run.
pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Crashes));
    let mut pause = (end - Instant::now())
        .mul_f64(0.5)
        .min(seconds(&mut rng, 25.0..35.0));
    while wait(pause, end).await {
        let _lock = scene.storage.lock().await;
        let server = scene.storage.postgres().primary();
        server.crash();
        scene.tally.increment("databases crashed");
        wait(seconds(&mut rng, 0.3..2.0), end).await;
        server.start_again();
        pause = seconds(&mut rng, 45.0..75.0);
    }
}
