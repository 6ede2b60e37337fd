//! Replicas that are frozen (`SIGSTOP`) for longer than their leases and resumed (`SIGCONT`).

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Freezes));
    while wait(seconds(&mut rng, 5.0..25.0), end).await {
        let replica = scene.replicas.choose(&mut rng).await;
        replica.freeze().await;
        scene.tally.increment("replicas frozen for 14 to 40 s");
        wait(seconds(&mut rng, 14.0..40.0), end).await;
        replica.thaw().await;
    }
}
