//! Echoes of users' messages that come altered, much too late, or never.

use std::sync::Arc;
use std::time::Instant;

use liveperson_bridge::sandbox::webhooks::{Disturbance, DisturbanceKind};
use liveperson_bridge::sandbox::{Kind, Role};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::{TICK, seconds};
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

/// About the number of texts that users write in a tick.
const ALTERED: u32 = 3;

/// About the number of texts that users write in two seconds.
const DELAYED: u32 = 40;

/// Masks echoes, escapes them for HTML, or dates them 30 s back.
pub(in crate::crash) async fn alter_until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::AlteredEchoes));
    let kinds = [
        ("echoes masked", DisturbanceKind::Mask),
        ("echoes escaped", DisturbanceKind::Escape),
        ("echoes of a slow clock", DisturbanceKind::SlowClock),
    ];
    while wait(TICK, end).await {
        let (name, kind) = kinds.choose(&mut rng).unwrap();
        if rng.random_ratio(1, 15) {
            disturb_echoes(&scene, name, *kind, ALTERED);
        }
    }
}

/// Delays echoes by 11 to 25 s, which is longer than the bridge waits for one.
pub(in crate::crash) async fn delay_until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::LateEchoes));
    while wait(seconds(&mut rng, 10.0..20.0), end).await {
        let _lock = scene.delay_lock.lock().await;
        disturb_echoes(
            &scene,
            "echoes late by 11 to 25 s",
            DisturbanceKind::Delay,
            DELAYED,
        );
        wait(seconds(&mut rng, 11.0..25.0), end).await;
        scene.sandbox.release_notifications();
    }
}

/// Drops echoes.
pub(in crate::crash) async fn drop_until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::MissingEchoes));
    while wait(TICK, end).await {
        if rng.random_ratio(3, 100) {
            disturb_echoes(&scene, "echoes missing", DisturbanceKind::Drop, 1);
        }
    }
}

/// Disturbs this number of the next echoes of users' messages.
fn disturb_echoes(scene: &Scene, name: &'static str, kind: DisturbanceKind, times: u32) {
    scene.sandbox.disturb(Disturbance {
        times,
        only: Some(Kind::Content),
        by: Some(Role::Consumer),
        ..Disturbance::next(kind)
    });
    scene.tally.add(name, usize::try_from(times).unwrap());
}
