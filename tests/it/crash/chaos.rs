//! Breaking things until it is time to stop, and counting what was broken.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use liveperson_bridge::sandbox::hooks::{Disturbance, Trouble};
use liveperson_bridge::sandbox::{Answer, Fault, Kind, Operation, Reply, Role};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use reqwest::StatusCode;
use tokio::time::{interval, sleep};

use super::scene::{REPLICAS, Scene};

/// 100 ms: how often chance decides what breaks next.
const TICK: Duration = Duration::from_millis(100);

/// 1 s: how long the Cloud holds back at most what it delays. An echo may take ten times that.
const RELEASE: u32 = 10;

/// How many echoes in a row are altered alike.
const ALTERED: u32 = 3;

/// What was broken how often.
#[derive(Debug, Default)]
pub(super) struct Broken {
    pub(super) kills: u32,
    pub(super) database_crashes: u32,
    /// Faults and disturbances by kind.
    pub(super) by_kind: BTreeMap<&'static str, u32>,
}

/// Breaks things until the end.
pub(super) async fn until(end: Instant, scene: &Scene) -> Broken {
    let (kills, database_crashes, by_kind) = tokio::join!(
        kill_replicas(end, scene),
        crash_the_database(end, scene),
        trouble_the_wires(end, scene),
    );
    Broken {
        kills,
        database_crashes,
        by_kind,
    }
}

/// Kills one of the replicas every few seconds, and starts it again at once.
async fn kill_replicas(end: Instant, scene: &Scene) -> u32 {
    let mut chance = scene.settings.chance(2);
    let mut kills = 0;
    loop {
        sleep(Duration::from_millis(chance.random_range(1500..4000))).await;
        if Instant::now() >= end {
            return kills;
        }
        let place = chance.random_range(0..REPLICAS);
        scene.kill_replica(place).await;
        kills += 1;
        scene.start_replica(place).await;
    }
}

/// Stops the database hard once, about in the middle, and starts it again after a while.
async fn crash_the_database(end: Instant, scene: &Scene) -> u32 {
    let mut chance = scene.settings.chance(3);
    let left = end.saturating_duration_since(Instant::now());
    sleep(left.mul_f64(chance.random_range(0.4..0.6))).await;
    tokio::task::block_in_place(|| scene.server.crash());
    sleep(Duration::from_millis(chance.random_range(300..2000))).await;
    tokio::task::block_in_place(|| scene.server.start_again());
    1
}

/// Cuts connections, has answers of the Cloud go wrong, and its notifications come twice and in disorder.
async fn trouble_the_wires(end: Instant, scene: &Scene) -> BTreeMap<&'static str, u32> {
    let mut chance = scene.settings.chance(4);
    let mut by_kind = BTreeMap::new();
    let mut note = |kind| *by_kind.entry(kind).or_default() += 1;
    // Each user opens once, at the beginning.
    for _ in 0..scene.settings.users / 2 {
        note(inject(scene, Operation::Conversation, &mut chance));
    }
    let mut ticks = interval(TICK);
    for tick in 0_u32.. {
        ticks.tick().await;
        if Instant::now() >= end {
            break;
        }
        if tick % RELEASE == 0 {
            scene.sandbox.release_notifications();
        }
        if chance.random_ratio(15, 100) {
            note(inject(scene, Operation::Send, &mut chance));
        }
        if chance.random_ratio(1, 200) {
            note(inject(scene, Operation::AppToken, &mut chance));
        }
        if chance.random_ratio(2, 100) {
            scene.to_cloud.cut();
            note("connections to the Cloud cut");
        }
        if chance.random_ratio(3, 100) {
            scene.to_callback.cut();
            note("connections to the callback cut");
        }
        if chance.random_ratio(15, 100) {
            note(disturb(scene, &mut chance));
        }
        if scene.settings.altered {
            note(alter(scene, &mut chance));
        }
        // The Cloud takes a refusal for an outage of the app, and keeps everything back for 2 s.
        if chance.random_ratio(1, 200) {
            scene
                .sandbox
                .disturb(Disturbance::next(Trouble::BadSignature));
            note("notification with a bad signature");
        }
    }
    by_kind
}

/// Has the next answer of an operation go wrong.
fn inject(scene: &Scene, operation: Operation, chance: &mut StdRng) -> &'static str {
    let throttled = || {
        let mut reply = Reply::new(StatusCode::TOO_MANY_REQUESTS);
        reply.retry_after = Some("1".to_owned());
        Answer::Reply(reply)
    };
    let status = |status| Answer::Reply(Reply::new(status));
    let kinds = [
        ("answer stalled", false, Answer::Stall),
        ("answer stalled, applied", true, Answer::Stall),
        ("502, applied", true, status(StatusCode::BAD_GATEWAY)),
        ("503", false, status(StatusCode::SERVICE_UNAVAILABLE)),
        ("429", false, throttled()),
    ];
    let (kind, after_applying, answer) = kinds.choose(chance).unwrap().clone();
    scene.sandbox.inject(Fault {
        after_applying,
        ..Fault::new(operation, answer)
    });
    kind
}

/// Has the echoes of about as many texts as are written in a tick come altered.
fn alter(scene: &Scene, chance: &mut StdRng) -> &'static str {
    let kinds = [
        ("echoes masked", Trouble::Mask),
        ("echoes escaped", Trouble::Escape),
        ("echoes of a slow clock", Trouble::SlowClock),
    ];
    let (kind, trouble) = kinds.choose(chance).unwrap();
    scene.sandbox.disturb(Disturbance {
        times: ALTERED,
        only: Some(Kind::Content),
        by: Some(Role::Consumer),
        ..Disturbance::next(*trouble)
    });
    kind
}

/// Has a notification come otherwise than usual.
///
/// The Cloud's own disorder is kept to what users write and to states: an agent's texts are told in the order in which
/// they come, and only what comes together can be put in order.
fn disturb(scene: &Scene, chance: &mut StdRng) -> &'static str {
    let echo = |trouble| Disturbance {
        by: Some(Role::Consumer),
        ..Disturbance::next(trouble)
    };
    let state = |trouble| Disturbance {
        only: Some(Kind::Conversation),
        ..Disturbance::next(trouble)
    };
    let kinds = [
        ("notification twice", Disturbance::next(Trouble::Duplicate)),
        ("echo after the next", echo(Trouble::Reorder)),
        ("echo late", echo(Trouble::Delay)),
        (
            "three echoes at once",
            Disturbance {
                times: 3,
                ..echo(Trouble::Batch)
            },
        ),
        ("state after the next", state(Trouble::Reorder)),
    ];
    let (kind, disturbance) = kinds.choose(chance).unwrap();
    scene.sandbox.disturb(*disturbance);
    kind
}
