//! Connections to the Cloud and to the callback that break in the middle.

use std::sync::Arc;
use std::time::Instant;

use rand::RngExt as _;

use super::TICK;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Cuts));
    while wait(TICK, end).await {
        if rng.random_ratio(2, 100) {
            scene.to_cloud.cut();
            scene.tally.increment("connections to the Cloud cut");
        }
        if rng.random_ratio(3, 100) {
            scene.to_callback.cut();
            scene.tally.increment("connections to the callback cut");
        }
    }
}
