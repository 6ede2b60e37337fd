//! Replicas that are killed (`SIGKILL`) every few seconds and started again at once.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Kills));
    while wait(seconds(&mut rng, 1.5..4.0), end).await {
        let mut replica = scene.replicas.choose(&mut rng).await;
        replica.kill().await;
        scene.tally.increment("replicas killed");
        replica.start().await;
    }
}
