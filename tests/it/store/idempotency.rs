//! Requests with idempotency keys.

use liveperson_bridge::store::{
    Claim, HeldClaim, Intent, KeyedRequest, Store, UserRef, WriteAheadRecord,
};
use liveperson_bridge::types::idempotency::StoredResponse;
use liveperson_bridge::types::idempotency::{Fingerprint, IdempotencyKey};
use liveperson_bridge::types::message::MessageId;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{at, erase, key, lease};
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_repeated_key_gets_the_stored_answer,
    a_claimed_key_is_running_for_other_callers,
    a_key_reused_for_another_request_is_detected,
    channels_do_not_share_idempotency_keys,
    an_abandoned_idempotency_key_is_free,
    an_expired_claim_is_resumed_with_the_same_message_id,
    the_latest_write_ahead_record_is_returned_to_the_next_holder,
    a_claims_write_ahead_record_is_returned_to_the_next_holder,
    a_resumed_claim_writes_no_write_ahead_record,
    a_new_write_ahead_record_replaces_the_claims_record,
    a_claim_for_an_erased_user_writes_no_record,
    a_claim_for_an_erased_user_reports_the_keys_state,
    erasure_deletes_a_claims_write_ahead_record,
    only_the_winning_claim_writes_its_record,
    only_the_key_holders_answer_is_stored,
    a_write_ahead_record_needs_the_lease_and_the_user,
    a_renewed_lease_is_held_longer,
    a_lost_lease_settles_nothing,
    an_answer_is_stored_and_erased_with_its_user,
    an_idempotency_key_expires_after_24_hours,
    forty_claims_of_one_key_have_one_winner,
    concurrent_keys_are_each_claimed_recorded_and_answered,
    one_failing_answer_does_not_fail_batched_ones,
);

const DAY: i64 = 24 * 60 * 60;

fn request(channel_id: &str, name: &str, body: &str) -> KeyedRequest {
    KeyedRequest {
        channel_id: channel_id.parse().unwrap(),
        key: name.parse::<IdempotencyKey>().unwrap().hash(None),
        fingerprint: Fingerprint::of(&[body.as_bytes()]),
    }
}

fn message_id() -> MessageId {
    MessageId::new(Uuid::new_v4())
}

fn answer(body: &str) -> StoredResponse {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    StoredResponse {
        status: 201,
        headers: vec![header("location", "/a"), header("x", "\"é\"")],
        body: body.to_owned(),
    }
}

/// Claims a request with a lease of 15 s.
async fn begin(store: &Store, request: &KeyedRequest, lease_id: &str, second: i64) -> Claim {
    begin_with(store, request, lease_id, None, second).await
}

/// Claims a request with a lease of 15 s and a write-ahead record.
async fn begin_with(
    store: &Store,
    request: &KeyedRequest,
    lease_id: &str,
    intent: Option<Intent>,
    second: i64,
) -> Claim {
    let lease = lease(lease_id, second + 15);
    store
        .claim_key(request, message_id(), &lease, intent, at(second))
        .await
        .unwrap()
}

fn intent(user: UserRef, body: &str) -> Intent {
    let body = body.to_owned();
    Intent { user, body }
}

fn write_ahead(body: &str) -> WriteAheadRecord {
    WriteAheadRecord {
        body: body.to_owned(),
        content: None,
    }
}

#[track_caller]
fn ours(claim: Claim) -> HeldClaim {
    let Claim::Ours(held) = claim else {
        panic!("not ours: {claim:?}");
    };
    held
}

/// Stores an answer that is not about a user.
async fn finish(
    store: &Store,
    request: &KeyedRequest,
    lease_id: &str,
    answer: &StoredResponse,
) -> bool {
    let lease = lease(lease_id, 15);
    let finished = store.store_answer(request, &lease, None, answer).await;
    finished.unwrap()
}

fn is_new(claim: &Claim) -> bool {
    matches!(claim, Claim::Ours(HeldClaim { resumed: false, .. }))
}

async fn a_repeated_key_gets_the_stored_answer(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");

    assert!(is_new(&begin(&store, &request, "l1", 0).await));
    let stored = answer("{\"text\":\"Zoë 👋 \\u0000\"}");
    assert!(finish(&store, &request, "l1", &stored).await);

    // Also long after the lease would have expired.
    for second in [1, 100] {
        let again = begin(&store, &request, "l2", second).await;
        assert_eq!(again, Claim::Answered(stored.clone()));
    }
}

async fn a_claimed_key_is_running_for_other_callers(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");

    assert!(is_new(&begin(&store, &request, "l1", 0).await));

    assert_eq!(begin(&store, &request, "l2", 0).await, Claim::Running);
    assert_eq!(begin(&store, &request, "l2", 14).await, Claim::Running);
}

async fn a_key_reused_for_another_request_is_detected(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (first, other) = (request("sms", "k", "{}"), request("sms", "k", "{ }"));

    begin(&store, &first, "l1", 0).await;

    assert_eq!(begin(&store, &other, "l2", 0).await, Claim::Reused);
    // The holder of the first request may have sent much of it before its lease expired.
    assert_eq!(begin(&store, &other, "l2", 15).await, Claim::Reused);
    assert!(finish(&store, &first, "l1", &answer("")).await);
    assert_eq!(begin(&store, &other, "l2", 16).await, Claim::Reused);
}

async fn channels_do_not_share_idempotency_keys(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    begin(&store, &request("sms", "k", "{}"), "l1", 0).await;

    let other = request("app", "k", "{}");
    assert!(is_new(&begin(&store, &other, "l2", 0).await));
    let other = request("sms", "K", "{}");
    assert!(is_new(&begin(&store, &other, "l2", 0).await));
}

async fn an_abandoned_idempotency_key_is_free(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let first = request("sms", "k", "{}");
    begin(&store, &first, "l1", 0).await;

    // Only the holder can abandon the key.
    let abandon = async |id: &str| store.release_key(&first, &lease(id, 15)).await.unwrap();
    abandon("l2").await;
    assert_eq!(begin(&store, &first, "l2", 1).await, Claim::Running);
    abandon("l1").await;

    let other = request("sms", "k", "another body");
    assert!(is_new(&begin(&store, &other, "l2", 2).await));
}

async fn an_expired_claim_is_resumed_with_the_same_message_id(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");
    let message_id = ours(begin(&store, &request, "l1", 0).await).message_id;

    let taken_over = begin(&store, &request, "l2", 15).await;

    let resumed = HeldClaim {
        message_id,
        created_at: at(0),
        resumed: true,
        write_ahead: None,
        is_recorded: false,
    };
    assert_eq!(ours(taken_over), resumed);
    assert_eq!(begin(&store, &request, "l3", 16).await, Claim::Running);
}

async fn the_latest_write_ahead_record_is_returned_to_the_next_holder(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let request = request("sms", "k", "{}");
    begin(&store, &request, "l1", 0).await;
    let record = async |body: &str, content: Option<&[u8]>, until| {
        let lease = lease("l1", until);
        let is_recorded = store.record_in_flight(&request, &lease, user, body, content);
        assert!(is_recorded.await.unwrap());
    };

    record("first", Some(b"bytes"), 20).await;
    record("second", None, 30).await;
    assert_eq!(begin(&store, &request, "l2", 29).await, Claim::Running);
    let taken_over = begin(&store, &request, "l2", 30).await;

    assert_eq!(ours(taken_over).write_ahead, Some(write_ahead("second")));
    // The record is deleted with the answer.
    assert!(finish(&store, &request, "l2", &answer("done")).await);
    assert!(!database.dump().await.contains("second"));
}

async fn a_claims_write_ahead_record_is_returned_to_the_next_holder(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let request = request("sms", "k", "{}");
    let text = r#"{"text": "Zoë 👋 \u0000"}"#;

    let first = begin_with(&store, &request, "l1", Some(intent(user, text)), 0).await;
    let concurrent = begin(&store, &request, "l2", 14).await;
    let taken_over = begin(&store, &request, "l2", 15).await;

    let first = ours(first);
    let expected = HeldClaim {
        message_id: first.message_id,
        created_at: at(0),
        resumed: false,
        write_ahead: None,
        is_recorded: true,
    };
    assert_eq!(first, expected);
    assert_eq!(concurrent, Claim::Running);
    let expected = HeldClaim {
        resumed: true,
        write_ahead: Some(write_ahead(text)),
        is_recorded: false,
        ..first
    };
    assert_eq!(ours(taken_over), expected);
    // The record is deleted with the answer.
    assert!(finish(&store, &request, "l2", &answer("done")).await);
    assert!(!database.dump().await.contains("Zoë 👋 \\u0000"));
}

async fn a_resumed_claim_writes_no_write_ahead_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let (recorded, bare) = (request("sms", "k1", "{}"), request("sms", "k2", "{}"));
    let first = begin_with(&store, &recorded, "l1", Some(intent(user, "first")), 0).await;
    begin(&store, &bare, "l2", 0).await;

    let second = Some(intent(user, "second"));
    let taken_over = begin_with(&store, &recorded, "l3", second.clone(), 15).await;
    let bare_taken_over = begin_with(&store, &bare, "l4", second, 15).await;

    let taken_over = ours(taken_over);
    assert_eq!(taken_over.message_id, ours(first).message_id);
    assert_eq!(taken_over.write_ahead, Some(write_ahead("first")));
    assert!(!taken_over.is_recorded);
    let taken_over = ours(bare_taken_over);
    assert_eq!(
        (taken_over.write_ahead, taken_over.is_recorded),
        (None, false)
    );
    assert!(!database.dump().await.contains("second"));
}

async fn a_new_write_ahead_record_replaces_the_claims_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let request = request("sms", "k", "{}");
    begin_with(&store, &request, "l1", Some(intent(user, "first")), 0).await;

    let lease = lease("l1", 20);
    let is_recorded = store.record_in_flight(&request, &lease, user, "second", None);
    assert!(is_recorded.await.unwrap());

    assert_eq!(begin(&store, &request, "l2", 19).await, Claim::Running);
    let taken_over = ours(begin(&store, &request, "l2", 20).await);
    assert_eq!(taken_over.write_ahead, Some(write_ahead("second")));
}

async fn a_claim_for_an_erased_user_writes_no_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let erased = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let user = store.ensure_user(&key("b"), at(0)).await.unwrap();
    erase(&store, erased, 1).await;

    // Other claims in the same batch are not affected.
    let mut claims = JoinSet::new();
    for number in 0..30 {
        let store = store.clone();
        claims.spawn(async move {
            let name = number.to_string();
            let user = if number % 3 == 0 { erased } else { user };
            let intent = Some(intent(user, &format!("marker {}", number % 3)));
            let claim = begin_with(&store, &request("sms", &name, ""), &name, intent, 2).await;
            (number, ours(claim))
        });
    }
    let claims = claims.join_all().await;

    for (number, held) in claims {
        assert!(!held.resumed);
        assert_eq!(held.is_recorded, number % 3 != 0, "{number}");
    }
    let dump = database.dump().await;
    assert!(dump.contains("marker 1"));
    assert!(!dump.contains("marker 0"));
    let (none, lease) = (request("sms", "0", ""), lease("0", 20));
    let is_recorded = store.record_in_flight(&none, &lease, erased, "marker 0", None);
    assert!(!is_recorded.await.unwrap());
}

async fn a_claim_for_an_erased_user_reports_the_keys_state(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let erased = store.ensure_user(&key("a"), at(0)).await.unwrap();
    erase(&store, erased, 1).await;
    let (running, answered) = (request("sms", "k1", "{}"), request("sms", "k2", "{}"));
    begin(&store, &running, "l1", 2).await;
    begin(&store, &answered, "l2", 2).await;
    assert!(finish(&store, &answered, "l2", &answer("done")).await);

    let claim = async |request: &KeyedRequest| {
        begin_with(&store, request, "l3", Some(intent(erased, "marker")), 3).await
    };
    assert_eq!(claim(&running).await, Claim::Running);
    assert_eq!(claim(&answered).await, Claim::Answered(answer("done")));
    let reused = request("sms", "k2", "another body");
    assert_eq!(claim(&reused).await, Claim::Reused);
    assert!(!database.dump().await.contains("marker"));
}

async fn erasure_deletes_a_claims_write_ahead_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let request = request("sms", "k", "{}");
    let intent = Some(intent(user, "marker"));
    assert!(ours(begin_with(&store, &request, "l1", intent, 0).await).is_recorded);

    erase(&store, user, 1).await;

    assert!(!database.dump().await.contains("marker"));
    assert!(!finish(&store, &request, "l1", &answer("late")).await);
    assert!(is_new(&begin(&store, &request, "l2", 2).await));
}

async fn only_the_winning_claim_writes_its_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();

    let mut claims = JoinSet::new();
    for number in 0..40 {
        let store = store.clone();
        claims.spawn(async move {
            let lease_id = format!("l{number}");
            let intent = Some(intent(user, &format!("marker of {number}.")));
            begin_with(&store, &request("sms", "k", "{}"), &lease_id, intent, 0).await
        });
    }
    let claims = claims.join_all().await;

    let won = claims.into_iter().filter(|claim| *claim != Claim::Running);
    let won: Vec<_> = won.map(ours).collect();
    assert_eq!(won.len(), 1);
    assert!(won[0].is_recorded);
    let taken_over = ours(begin(&store, &request("sms", "k", "{}"), "other", 15).await);
    assert_eq!(taken_over.message_id, won[0].message_id);
    assert_eq!(database.dump().await.matches("marker of ").count(), 1);
}

async fn only_the_key_holders_answer_is_stored(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");
    begin(&store, &request, "l20", 0).await;

    let mut answers = JoinSet::new();
    for number in 0..40 {
        let (store, request) = (store.clone(), request.clone());
        answers.spawn(async move {
            let lease_id = format!("l{number}");
            let is_stored = finish(&store, &request, &lease_id, &answer(&lease_id)).await;
            (number, is_stored)
        });
    }
    let answers = answers.join_all().await;

    for (number, is_stored) in answers {
        assert_eq!(is_stored, number == 20, "{number}");
    }
    let again = begin(&store, &request, "other", 1).await;
    assert_eq!(again, Claim::Answered(answer("l20")));
}

async fn a_write_ahead_record_needs_the_lease_and_the_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let request = request("sms", "k", "{}");
    begin(&store, &request, "l1", 0).await;
    let record = async |lease_id: &str, user| {
        let (lease, content) = (lease(lease_id, 30), Some(&b"marker of bytes"[..]));
        let is_recorded = store.record_in_flight(&request, &lease, user, "marker", content);
        is_recorded.await.unwrap()
    };

    assert!(!record("l2", user).await);
    assert!(!database.dump().await.contains("marker"));
    assert!(record("l1", user).await);
    assert!(database.dump().await.contains("marker"));

    // The write-ahead record is deleted with the user, and the key with it.
    erase(&store, user, 1).await;
    assert!(!database.dump().await.contains("marker"));
    assert!(!record("l1", user).await);
    assert!(is_new(&begin(&store, &request, "l1", 2).await));
    assert!(!record("l1", user).await);
}

async fn a_renewed_lease_is_held_longer(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");
    begin(&store, &request, "l1", 0).await;

    let renewed = store.renew_key_lease(&request, &lease("l1", 30)).await;

    assert!(renewed.unwrap());
    assert_eq!(begin(&store, &request, "l2", 29).await, Claim::Running);
    let taken_over = begin(&store, &request, "l2", 30).await;
    assert!(ours(taken_over).resumed);
}

async fn a_lost_lease_settles_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let request = request("sms", "k", "{}");
    let lost = lease("l1", 15);
    begin(&store, &request, "l1", 0).await;
    begin(&store, &request, "l2", 15).await;

    let renewed = store.renew_key_lease(&request, &lost).await.unwrap();
    let finished = finish(&store, &request, "l1", &answer("late")).await;
    store.release_key(&request, &lost).await.unwrap();

    assert!(!renewed && !finished);
    assert_eq!(begin(&store, &request, "l3", 16).await, Claim::Running);
}

async fn an_answer_is_stored_and_erased_with_its_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let (of_user, of_unknown_user) = (request("sms", "k1", "{}"), request("sms", "k2", "{}"));
    begin(&store, &of_user, "l1", 0).await;
    begin(&store, &of_unknown_user, "l2", 0).await;

    let stored = answer("marker");
    let store_answer_of = async |request, lease_id: &str, user_id: &str| {
        let (lease, user) = (lease(lease_id, 15), key(user_id));
        let finished = store.store_answer(request, &lease, Some(&user), &stored);
        finished.await.unwrap()
    };
    assert!(store_answer_of(&of_user, "l1", "a").await);
    assert!(!store_answer_of(&of_unknown_user, "l2", "b").await);
    // If a write-ahead record names the user, the answer need not.
    let recorded = request("sms", "k3", "{}");
    begin(&store, &recorded, "l4", 0).await;
    let holder = lease("l4", 15);
    let is_recorded = store
        .record_in_flight(&recorded, &holder, user, "{}", None)
        .await;
    assert!(is_recorded.unwrap());
    assert!(finish(&store, &recorded, "l4", &stored).await);
    assert!(database.dump().await.contains("marker"));
    erase(&store, user, 1).await;

    assert!(!database.dump().await.contains("marker"));
    assert!(is_new(&begin(&store, &of_user, "l3", 2).await));
    assert!(is_new(&begin(&store, &recorded, "l5", 2).await));
}

async fn an_idempotency_key_expires_after_24_hours(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let requests: Vec<_> = (0..3)
        .map(|number| request("sms", &format!("k{number}"), "{}"))
        .collect();
    for request in &requests {
        begin(&store, request, "l", 0).await;
        assert!(finish(&store, request, "l", &answer("")).await);
    }

    let forget = async |second| store.remove_expired_keys(at(second), 2).await.unwrap();
    assert_eq!(forget(DAY - 1).await, 0);
    let claim = begin(&store, &requests[0], "l", DAY - 1).await;
    assert_eq!(claim, Claim::Answered(answer("")));

    // Before the cleanup, a request under an expired key counts as new, whatever it asks for.
    let new = request("sms", "k0", "another body");
    assert!(is_new(&begin(&store, &new, "l", DAY).await));
    assert_eq!(forget(DAY).await, 2);
    assert_eq!(forget(DAY).await, 0);
    assert_eq!(begin(&store, &new, "l2", DAY + 1).await, Claim::Running);
}

async fn forty_claims_of_one_key_have_one_winner(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    // Once for a free key, and once for a key with an expired lease.
    for second in [0, 15] {
        let mut claims = JoinSet::new();
        for number in 0..40 {
            let store = store.clone();
            claims.spawn(async move {
                let lease_id = format!("l{second}-{number}");
                begin(&store, &request("sms", "k", "{}"), &lease_id, second).await
            });
        }
        let claims = claims.join_all().await;

        let won = claims.iter().filter(|c| matches!(c, Claim::Ours(_)));
        let running = claims.iter().filter(|c| **c == Claim::Running);
        assert_eq!((won.count(), running.count()), (1, 39));
    }
}

async fn concurrent_keys_are_each_claimed_recorded_and_answered(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();

    let mut requests = JoinSet::new();
    for number in 0..300 {
        let store = store.clone();
        requests.spawn(async move {
            let name = number.to_string();
            let (request, lease) = (request("sms", &name, &name), lease(&name, 15));
            assert!(is_new(&begin(&store, &request, &name, 0).await));
            let is_recorded = store
                .record_in_flight(&request, &lease, user, &name, None)
                .await;
            assert!(is_recorded.unwrap());
            // One third has lost its lease, and another third names an unknown user.
            let holder = if number % 3 == 0 { "other" } else { &name };
            let user = key(if number % 3 == 1 { "nobody" } else { "a" });
            let holder = super::lease(holder, 15);
            let reply = answer(&name);
            let finished = store.store_answer(&request, &holder, Some(&user), &reply);
            assert_eq!(finished.await.unwrap(), number % 3 == 2, "{number}");
        });
    }
    requests.join_all().await;

    for number in 0..300 {
        let name = number.to_string();
        let again = begin(&store, &request("sms", &name, &name), "l2", 15).await;
        if number % 3 == 2 {
            assert_eq!(again, Claim::Answered(answer(&name)));
        } else {
            let taken_over = ours(again);
            assert!(taken_over.resumed, "{number}");
            assert_eq!(taken_over.write_ahead, Some(write_ahead(&name)));
        }
    }
}

async fn one_failing_answer_does_not_fail_batched_ones(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for number in 0..30 {
        let name = number.to_string();
        assert!(is_new(
            &begin(&store, &request("sms", &name, ""), "l", 0).await
        ));
    }

    let mut answers = JoinSet::new();
    for number in 0..30 {
        let store = store.clone();
        answers.spawn(async move {
            // PostgreSQL stores no text with this character.
            let kept = answer(if number == 7 { "\u{0}" } else { "{}" });
            let name = number.to_string();
            let (request, lease) = (request("sms", &name, ""), lease("l", 15));
            let kept = store.store_answer(&request, &lease, None, &kept).await;
            (number, kept)
        });
    }
    let answers = answers.join_all().await;

    for (number, kept) in answers {
        let is_bad = engine == Engine::Postgres && number == 7;
        assert_eq!(kept.ok(), (!is_bad).then_some(true), "{number}");
    }
}
