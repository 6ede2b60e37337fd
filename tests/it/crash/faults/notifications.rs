//! Notifications that come twice, out of order, batched, up to a second late, or with a bad
//! signature.
//!
//! Only echoes and conversation states are reordered. An agent's texts are delivered in the order
//! of their arrival, and the bridge can sort only those that arrive together.

use std::sync::Arc;
use std::time::Instant;

use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use liveperson_bridge::sandbox::{Kind, Role};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::TICK;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

/// In ticks, 1 s: the longest delay of a notification; an echo may take ten times as long.
const RELEASE_TICKS: u32 = 10;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Notifications));
    let mut tick = 0;
    while wait(TICK, end).await {
        tick += 1;
        if tick % RELEASE_TICKS == 0
            && let Ok(_lock) = scene.delay_lock.try_lock()
        {
            scene.sandbox.release_notifications();
        }
        if rng.random_ratio(15, 100) {
            disturb(&scene, &mut rng);
        }
        // The Cloud takes a refusal for an outage of the app, and stops all notifications for 2 s.
        if rng.random_ratio(1, 200) {
            let forged = Disturbance::next(DisturbanceKind::BadSignature);
            scene.sandbox.disturb(forged);
            scene.tally.increment("notification with a bad signature");
        }
    }
}

/// Disturbs the next notification.
fn disturb(scene: &Scene, rng: &mut StdRng) {
    let echo = |kind| Disturbance {
        by: Some(Role::Consumer),
        ..Disturbance::next(kind)
    };
    let state = |kind| Disturbance {
        only: Some(Kind::Conversation),
        ..Disturbance::next(kind)
    };
    let batch = Disturbance {
        times: 3,
        ..echo(DisturbanceKind::Batch)
    };
    let kinds = [
        (
            "notification twice",
            Disturbance::next(DisturbanceKind::Duplicate),
        ),
        ("echo after the next", echo(DisturbanceKind::Reorder)),
        ("echo late by up to 1 s", echo(DisturbanceKind::Delay)),
        ("three echoes at once", batch),
        ("state after the next", state(DisturbanceKind::Reorder)),
    ];
    let (name, disturbance) = kinds.choose(rng).unwrap();
    scene.sandbox.disturb(*disturbance);
    scene.tally.increment(name);
}
