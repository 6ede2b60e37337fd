//! Echoes of users' messages that come altered, much too late, or never.

use std::sync::Arc;
use std::time::Instant;

use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use liveperson_bridge::sandbox::{Kind, Role};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::{TICK, seconds};
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;

/// About the number of texts that users write in a tick.
const ALTERED: u32 = 3;

/// About the number of texts that users write in two seconds.
const HELD_BACK: u32 = 40;

/// Masks echoes, escapes them for HTML, or dates them 30 s back.
pub(in crate::crash) async fn alter_until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Altered));
    let kinds = [
        ("echoes masked", DisturbanceKind::Mask),
        ("echoes escaped", DisturbanceKind::Escape),
        ("echoes of a slow clock", DisturbanceKind::SlowClock),
    ];
    while pass(TICK, end).await {
        let (kind, trouble) = kinds.choose(&mut chance).unwrap();
        if chance.random_ratio(1, 15) {
            strike(&scene, kind, *trouble, ALTERED);
        }
    }
}

/// Delays echoes by 11 to 25 s, which is longer than the bridge waits for one.
pub(in crate::crash) async fn hold_back_until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Late));
    while pass(seconds(&mut chance, 10.0..20.0), end).await {
        let _held_back = scene.holding_back.lock().await;
        strike(
            &scene,
            "echoes late by 11 to 25 s",
            DisturbanceKind::Delay,
            HELD_BACK,
        );
        pass(seconds(&mut chance, 11.0..25.0), end).await;
        scene.sandbox.release_notifications();
    }
}

/// Drops echoes.
pub(in crate::crash) async fn drop_until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Missing));
    while pass(TICK, end).await {
        if chance.random_ratio(3, 100) {
            strike(&scene, "echoes missing", DisturbanceKind::Drop, 1);
        }
    }
}

/// Disturbs this number of the next echoes of users' messages.
fn strike(scene: &Scene, name: &'static str, trouble: DisturbanceKind, times: u32) {
    scene.sandbox.disturb(Disturbance {
        times,
        only: Some(Kind::Content),
        by: Some(Role::Consumer),
        ..Disturbance::next(trouble)
    });
    scene.tally.add(name, usize::try_from(times).unwrap());
}
