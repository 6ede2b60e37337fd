//! A 2xx is a promise, also during faults of every kind. Processes are killed and frozen. Databases
//! crash, fail over and run out of space. Networks go silent. The Cloud's answers are lost, and its
//! notifications come late, twice and out of order. The channel's callback fails.
//!
//! `scene` starts all programs, and `faults` makes the faults. `users` and `agents` act,
//! `callbacks` records the channel's events, `recording` records the Cloud's echoes, and `verdict`
//! checks the result. `parts` has the table of all parts of a run, and `settings` its length and
//! load; `scripts/crash` sets both.

mod actions;
mod agents;
mod callbacks;
mod copies;
mod events;
mod faults;
mod parts;
mod recording;
mod replicas;
mod scene;
mod settings;
mod storage;
mod tally;
mod users;
mod verdict;

use std::sync::Arc;
use std::time::Instant;

use scene::Scene;
use settings::Settings;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use verdict::Verdict;

use crate::support::database::Engine;

on_both_engines!(requests_answered_2xx_are_not_lost_duplicated_or_reordered);

/// One run at a time: two runs at once would slow each other down and distort the measurements.
static RUN_LOCK: Mutex<()> = Mutex::const_new(());

#[expect(
    clippy::print_stdout,
    reason = "the person who runs it sees the faults and the counts"
)]
async fn requests_answered_2xx_are_not_lost_duplicated_or_reordered(engine: Engine) {
    let _run = RUN_LOCK.lock().await;
    let settings = Settings::from_environment(engine);
    println!("crash: {settings}");
    let seed = settings.seed;
    let scene = Arc::new(Scene::start(settings).await);
    let end = Instant::now() + scene.settings.duration;

    let mut users = JoinSet::new();
    let mut agents = JoinSet::new();
    for number in 0..scene.settings.users {
        let (user, agent) = scene.create_user(number);
        users.spawn(user.act_until(end));
        agents.spawn(agent.answer_until(end));
    }
    let recording = scene.record_until(end);
    let faults = faults::until(end, &scene);
    let ((), ()) = tokio::join!(recording, faults);
    let lives = users.join_all().await.into_iter().flatten().collect();
    let written = agents.join_all().await.into_iter().flatten().collect();
    let drained = scene.drain().await;

    let verdict = Verdict::of(&scene, lives, written, drained).await;
    println!("{verdict}");
    if !verdict.complaints.is_empty() {
        println!("crash: logs are stored in {}", scene.save_logs().await);
    }
    assert!(
        verdict.complaints.is_empty(),
        "seed {seed}:\n{}",
        verdict.complaints.join("\n")
    );
}
