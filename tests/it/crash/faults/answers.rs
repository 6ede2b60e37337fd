//! Requests to the Cloud that get no answer or an error, before or after they took effect.

use std::sync::Arc;
use std::time::Instant;

use liveperson_bridge::sandbox::{Answer, Fault, Operation, Reply};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use reqwest::StatusCode;

use super::TICK;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Answers));
    // Each user sends an opening at the beginning.
    for _ in 0..scene.settings.users / 2 {
        inject(&scene, Operation::Conversation, &mut rng);
    }
    while wait(TICK, end).await {
        for (operation, per_thousand) in [
            (Operation::Send, 150),
            (Operation::Conversation, 10),
            (Operation::Upload, 5),
            (Operation::AppToken, 5),
        ] {
            if rng.random_ratio(per_thousand, 1000) {
                inject(&scene, operation, &mut rng);
            }
        }
    }
}

/// Makes the next answer to an operation fail.
fn inject(scene: &Scene, operation: Operation, rng: &mut StdRng) {
    let throttled = || {
        let mut reply = Reply::new(StatusCode::TOO_MANY_REQUESTS);
        reply.retry_after = Some("1".to_owned());
        Answer::Reply(reply)
    };
    let status = |status| Answer::Reply(Reply::new(status));
    let kinds = [
        ("Cloud: answer stalled", false, Answer::Stall),
        ("Cloud: answer stalled, applied", true, Answer::Stall),
        ("Cloud: 502, applied", true, status(StatusCode::BAD_GATEWAY)),
        ("Cloud: 503", false, status(StatusCode::SERVICE_UNAVAILABLE)),
        ("Cloud: 429", false, throttled()),
    ];
    let (name, after_applying, answer) = kinds.choose(rng).unwrap().clone();
    scene.sandbox.inject(Fault {
        after_applying,
        ..Fault::new(operation, answer)
    });
    scene.tally.increment(name);
}
