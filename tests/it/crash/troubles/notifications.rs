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
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

/// In ticks, 1 s: the longest delay of a notification; an echo may take ten times as long.
const RELEASE: u32 = 10;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Notifications));
    let mut tick = 0;
    while pass(TICK, end).await {
        tick += 1;
        if tick % RELEASE == 0
            && let Ok(_nobody_holds_back) = scene.holding_back.try_lock()
        {
            scene.sandbox.release_notifications();
        }
        if chance.random_ratio(15, 100) {
            disturb(&scene, &mut chance);
        }
        // The Cloud takes a refusal for an outage of the app, and stops all notifications for 2 s.
        if chance.random_ratio(1, 200) {
            let forged = Disturbance::next(DisturbanceKind::BadSignature);
            scene.sandbox.disturb(forged);
            scene.tally.note("notification with a bad signature");
        }
    }
}

/// Disturbs the next notification.
fn disturb(scene: &Scene, chance: &mut StdRng) {
    let echo = |trouble| Disturbance {
        by: Some(Role::Consumer),
        ..Disturbance::next(trouble)
    };
    let state = |trouble| Disturbance {
        only: Some(Kind::Conversation),
        ..Disturbance::next(trouble)
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
    let (kind, disturbance) = kinds.choose(chance).unwrap();
    scene.sandbox.disturb(*disturbance);
    scene.tally.note(kind);
}
