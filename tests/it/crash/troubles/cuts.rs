//! Connections to the Cloud and to the callback that break in the middle.

use std::sync::Arc;
use std::time::Instant;

use rand::RngExt as _;

use super::TICK;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Cuts));
    while pass(TICK, end).await {
        if chance.random_ratio(2, 100) {
            scene.to_cloud.cut();
            scene.tally.note("connections to the Cloud cut");
        }
        if chance.random_ratio(3, 100) {
            scene.to_callback.cut();
            scene.tally.note("connections to the callback cut");
        }
    }
}
