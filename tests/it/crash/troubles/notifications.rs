//! Notifications that come twice, in disorder, several in one, late by up to a second, or with a bad signature.
//!
//! The Cloud's own disorder is kept to what users write and to states: an agent's texts are told in the order in which they come,
//! and only what comes together can be put in order.

use std::sync::Arc;
use std::time::Instant;

use liveperson_bridge::sandbox::hooks::{Disturbance, Trouble};
use liveperson_bridge::sandbox::{Kind, Role};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

use super::TICK;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

/// 1 s: how long the Cloud holds back at most what is late; an echo may take ten times that.
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
        // The Cloud takes a refusal for an outage of the app, and keeps everything back for 2 s.
        if chance.random_ratio(1, 200) {
            let forged = Disturbance::next(Trouble::BadSignature);
            scene.sandbox.disturb(forged);
            scene.tally.note("notification with a bad signature");
        }
    }
}

/// Has a notification come otherwise than usual.
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
        ..echo(Trouble::Batch)
    };
    let kinds = [
        ("notification twice", Disturbance::next(Trouble::Duplicate)),
        ("echo after the next", echo(Trouble::Reorder)),
        ("echo late by up to 1 s", echo(Trouble::Delay)),
        ("three echoes at once", batch),
        ("state after the next", state(Trouble::Reorder)),
    ];
    let (kind, disturbance) = kinds.choose(chance).unwrap();
    scene.sandbox.disturb(*disturbance);
    scene.tally.note(kind);
}
