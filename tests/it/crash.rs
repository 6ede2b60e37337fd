//! A 2xx is a promise, also while everything breaks that can: processes are killed and frozen, databases crash, fail over
//! and run out of room, networks go silent, answers of the Cloud are lost, its notifications come late, twice and in
//! disorder, and the channel's callback fails.
//!
//! `scene` builds the stage, `troubles` break what stands on it, `users` act, `agents` answer, `callbacks` takes the channel's
//! events down, `recording` what the Cloud told when, and `verdict` counts in the end. `parts` has the table of all that is
//! mixed in, `settings` how long and how hard it goes; `scripts/crash` sets both.

mod agents;
mod callbacks;
mod copies;
mod deeds;
mod events;
mod parts;
mod recording;
mod replicas;
mod scene;
mod settings;
mod storage;
mod tally;
mod troubles;
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

on_both_engines!(what_was_answered_2xx_is_neither_lost_nor_doubled_nor_out_of_order);

/// One run at a time: two at once would be measured by how busy the machine is.
static TURN: Mutex<()> = Mutex::const_new(());

#[expect(
    clippy::print_stdout,
    reason = "who runs it is shown what was done and counted"
)]
async fn what_was_answered_2xx_is_neither_lost_nor_doubled_nor_out_of_order(engine: Engine) {
    let _turn = TURN.lock().await;
    let settings = Settings::from_environment(engine);
    println!("crash: {settings}");
    let seed = settings.seed;
    let scene = Arc::new(Scene::set(settings).await);
    let end = Instant::now() + scene.settings.duration;

    let mut users = JoinSet::new();
    let mut agents = JoinSet::new();
    for number in 0..scene.settings.users {
        let (user, agent) = scene.cast(number);
        users.spawn(user.act_until(end));
        agents.spawn(agent.answer_until(end));
    }
    let recording = scene.record_until(end);
    let broken = troubles::until(end, &scene);
    let ((), ()) = tokio::join!(recording, broken);
    let lives = users.join_all().await.into_iter().flatten().collect();
    let written = agents.join_all().await.into_iter().flatten().collect();
    let drained = scene.drain().await;

    let verdict = Verdict::of(&scene, lives, written, drained).await;
    println!("{verdict}");
    if !verdict.complaints.is_empty() {
        println!("crash: logs are kept in {}", scene.keep_logs().await);
    }
    assert!(
        verdict.complaints.is_empty(),
        "seed {seed}:\n{}",
        verdict.complaints.join("\n")
    );
}
