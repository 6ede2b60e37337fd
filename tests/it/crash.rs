//! A 2xx is a promise, also while everything breaks that can: processes are killed, the database is stopped hard,
//! connections are cut, answers of the Cloud are lost, its notifications come twice and in disorder, and the channel's
//! callback fails.
//!
//! `scene` builds the stage, `chaos` breaks what stands on it, `users` write, `agents` answer, `callbacks` takes the
//! channel's events down, and `verdict` counts in the end. How long and how hard is in `settings`; `scripts/crash` sets it.

mod agents;
mod callbacks;
mod chaos;
mod scene;
mod settings;
mod users;
mod verdict;

use std::sync::Arc;
use std::time::Instant;

use scene::Scene;
use settings::Settings;
use tokio::task::JoinSet;
use verdict::Verdict;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_2xx_is_neither_lost_nor_doubled_nor_out_of_order() {
    let settings = Settings::from_environment();
    println!("crash: {settings:?}");
    let scene = Arc::new(Scene::set(settings).await);
    let end = Instant::now() + settings.duration;

    let mut users = JoinSet::new();
    let mut agents = JoinSet::new();
    for number in 0..settings.users {
        let (mut user, agent) = scene.cast(number);
        users.spawn(async move {
            user.write_until(end).await;
            user
        });
        agents.spawn(agent.answer_until(end));
    }
    let broken = chaos::until(end, &scene).await;
    let users = users.join_all().await;
    let agents = agents.join_all().await;
    let drained = scene.drain().await;

    let verdict = Verdict::of(&scene, &broken, &users, &agents, drained).await;
    println!("{verdict}");
    if !verdict.complaints.is_empty() {
        println!("crash: logs are kept in {}", scene.keep_logs());
    }
    assert!(
        verdict.complaints.is_empty(),
        "seed {}:\n{}",
        settings.seed,
        verdict.complaints.join("\n")
    );
}
