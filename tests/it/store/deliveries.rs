//! Deliveries: lanes, callbacks, the lists and actions of operators, and notices to agents.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{
    DeliveryAttempt, DeliveryOutcome, DirectLane, DirectLanes, DirectSwitch, DueEvent, Lane,
    LaneUpdate, NewEvent, Store, UserRef,
};
use liveperson_bridge::types::audit::Action;
use liveperson_bridge::types::delivery::{
    DeliveryState, PROBE_AFTER_FAILURES, Pause, ReplaySelection,
};
use liveperson_bridge::types::event::{EventId, EventType};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::log::{channel, event};
use super::{at, erase, key, recorded};
use crate::support::changes::append;
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_due_lane_is_claimed_by_one_caller,
    an_idle_lane_is_claimed_with_the_events_that_arrive_in_it,
    no_lane_is_claimed_directly_while_the_callback_has_trouble,
    a_closed_receiver_gets_the_lanes_of_transactions_in_progress,
    a_delivery_lanes_events_follow_the_log_order,
    a_deliverys_outcome_and_attempts_are_stored,
    a_lost_lease_settles_nothing,
    concurrent_delivery_settlements_keep_their_own_outcomes,
    one_failing_delivery_settlement_does_not_fail_batched_ones,
    events_added_while_many_lanes_empty_are_not_lost,
    concurrent_callback_failures_are_all_counted,
    an_event_added_while_its_lane_empties_is_not_lost,
    a_released_delivery_lane_is_due_at_once,
    twenty_failures_allow_one_probe_at_a_time,
    a_success_resets_the_callback_failure_count,
    a_resumed_callback_has_due_lanes_again,
    a_callback_pause_keeps_its_first_reason,
    expired_events_are_given_up,
    deliveries_are_listed_by_state,
    a_failed_or_delivered_event_can_be_retried,
    a_replay_selects_events_by_its_filter,
    agents_are_notified_only_of_failed_messages,
);

/// The second until which the events may be delivered.
const UNTIL: i64 = 1000;

async fn add(store: &Store, events: &[NewEvent]) {
    append(store, events, at(1)).await;
}

pub(super) async fn claim(store: &Store, now: i64, limit: u32) -> Vec<Lane> {
    store
        .claim_delivery_lanes(&channel("sms"), "mine", at(now), at(now + 15), limit)
        .await
        .unwrap()
}

async fn bodies(store: &Store, lane: &Lane) -> Vec<String> {
    let events = store.due_events(lane, 10).await.unwrap();
    events.into_iter().map(|event| event.body).collect()
}

/// Settles the first event of a lane after one attempt. Returns true if the lease was still valid.
pub(super) async fn settle(
    store: &Store,
    lane: &Lane,
    now: DateTime<Utc>,
    outcome: DeliveryOutcome<'_>,
    update: LaneUpdate,
) -> bool {
    let event = store.due_events(lane, 1).await.unwrap().remove(0);
    settle_event(store, lane, &event, now, outcome, update).await
}

/// Does the same for an event that was read before.
async fn settle_event(
    store: &Store,
    lane: &Lane,
    event: &DueEvent,
    now: DateTime<Utc>,
    outcome: DeliveryOutcome<'_>,
    update: LaneUpdate,
) -> bool {
    let attempt = DeliveryAttempt {
        at: now,
        duration_ms: 42,
        status: Some(500),
        error: None,
    };
    store
        .settle_delivery(lane, event, Some(&attempt), outcome, update, now)
        .await
        .unwrap()
}

async fn user(store: &Store, name: &str) -> UserRef {
    store.ensure_user(&key(name), at(0)).await.unwrap()
}

async fn state(store: &Store, id: EventId) -> Option<DeliveryState> {
    let record = store.event(&channel("sms"), id).await.unwrap().unwrap();
    record.delivery
}

async fn a_due_lane_is_claimed_by_one_caller(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for name in ["a", "b", "c", "d", "e"] {
        let user = user(&store, name).await;
        add(
            &store,
            &[event("sms", user, name), event("app", user, name)],
        )
        .await;
    }

    assert!(claim(&store, 0, 9).await.is_empty(), "nothing is due yet");
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { claim(&store, 1, 2).await });
    }
    let lanes = tasks.join_all().await.concat();

    let mut claimed = Vec::new();
    for lane in &lanes {
        claimed.extend(bodies(&store, lane).await);
    }
    claimed.sort_unstable();
    assert_eq!(claimed, ["a", "b", "c", "d", "e"]);
    assert!(
        claim(&store, 15, 9).await.is_empty(),
        "all lanes are leased"
    );
    assert_eq!(
        claim(&store, 16, 9).await.len(),
        5,
        "the leases have expired"
    );
}

/// Lets a store claim lanes of the channel `sms` directly, with this number of slots.
fn direct_lanes(store: &Store, slots: usize) -> (DirectLanes, DirectSwitch, Arc<Semaphore>) {
    let slots = Arc::new(Semaphore::new(slots));
    let (lanes, switch) =
        store.direct_lanes(&channel("sms"), Arc::clone(&slots), "direct".to_owned());
    switch.set_open(true);
    (lanes, switch, slots)
}

async fn an_idle_lane_is_claimed_with_the_events_that_arrive_in_it(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (a, b, c) = (
        user(&store, "a").await,
        user(&store, "b").await,
        user(&store, "c").await,
    );
    let (mut lanes, switch, slots) = direct_lanes(&store, 2);

    add(
        &store,
        &[
            event("sms", a, "1"),
            event("sms", b, "2"),
            event("sms", a, "3"),
            event("sms", c, "4"),
            event("app", a, "5"),
        ],
    )
    .await;

    let mut found = Vec::new();
    let mut held = Vec::new();
    for _ in 0..2 {
        let direct = lanes.next().await.unwrap();
        assert_eq!(direct.leased_until, at(16));
        let read = bodies(&store, &direct.lane).await;
        let handed: Vec<_> = direct.events.iter().map(|it| it.body.clone()).collect();
        assert_eq!(handed, read, "the events in memory and in the database");
        found.push(handed);
        held.push(direct);
    }
    assert_eq!(found, [vec!["1", "3"], vec!["2"]]);
    assert_eq!(slots.available_permits(), 0);
    let other = claim(&store, 1, 9).await;
    assert_eq!(other.len(), 1, "the lane without a slot is due");
    assert_eq!(bodies(&store, &other[0]).await, ["4"]);

    // An event that arrives in a claimed lane is left to its holder.
    add(&store, &[event("sms", b, "6")]).await;
    let DirectLane {
        lane, events, slot, ..
    } = held.remove(1);
    let settled = store.settle_delivery(
        &lane,
        &events[0],
        None,
        DeliveryOutcome::Delivered,
        LaneUpdate::Emptied,
        at(2),
    );
    assert!(settled.await.unwrap());
    drop(slot);
    let again = claim(&store, 2, 9).await;
    assert_eq!(bodies(&store, &again[0]).await, ["6"]);

    // A lost lease settles nothing.
    let DirectLane { lane, events, .. } = held.remove(0);
    assert_eq!(claim(&store, 16, 9).await.len(), 2, "expired leases");
    let settled = store.settle_delivery(
        &lane,
        &events[0],
        None,
        DeliveryOutcome::Delivered,
        LaneUpdate::Emptied,
        at(17),
    );
    assert!(!settled.await.unwrap());

    switch.set_open(false);
    add(&store, &[event("sms", user(&store, "d").await, "7")]).await;
    assert_eq!(slots.available_permits(), 2);
    assert_eq!(claim(&store, 1, 9).await.len(), 1);
}

async fn no_lane_is_claimed_directly_while_the_callback_has_trouble(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let (_lanes, _switch, slots) = direct_lanes(&store, 9);

    store.callback_failed(&sms, false, at(9)).await.unwrap();
    add(&store, &[event("sms", user(&store, "a").await, "1")]).await;
    assert_eq!(slots.available_permits(), 9, "after a failure");
    store.callback_succeeded(&sms, at(2)).await.unwrap();
    store.pause_callback(&sms, at(3)).await.unwrap();
    add(&store, &[event("sms", user(&store, "b").await, "2")]).await;
    assert_eq!(slots.available_permits(), 9, "while it is paused");

    assert_eq!(claim(&store, 1, 9).await.len(), 2);
}

async fn a_closed_receiver_gets_the_lanes_of_transactions_in_progress(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (mut lanes, _switch, slots) = direct_lanes(&store, 9);
    add(&store, &[event("sms", user(&store, "a").await, "1")]).await;

    lanes.close();

    assert!(lanes.next().await.is_some());
    assert!(lanes.next().await.is_none());
    add(&store, &[event("sms", user(&store, "b").await, "2")]).await;
    assert_eq!(slots.available_permits(), 9);
    assert_eq!(claim(&store, 1, 9).await.len(), 1);
}

async fn a_delivery_lanes_events_follow_the_log_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (a, b) = (user(&store, "a").await, user(&store, "b").await);
    let without_user = NewEvent {
        user: None,
        ..event("sms", a, "test")
    };
    let not_sent = NewEvent {
        deliver_until: None,
        ..event("sms", a, "not sent")
    };
    add(
        &store,
        &[event("sms", a, "1"), event("sms", b, "2"), not_sent],
    )
    .await;
    add(&store, &[event("sms", a, "3"), without_user]).await;

    let lanes = claim(&store, 1, 9).await;

    let mut found = Vec::new();
    for lane in &lanes {
        found.push(bodies(&store, lane).await);
    }
    found.sort_unstable();
    assert_eq!(found, [vec!["1", "3"], vec!["2"], vec!["test"]]);
    let first = &lanes[0];
    assert_eq!(store.due_events(first, 1).await.unwrap().len(), 1);
}

async fn a_deliverys_outcome_and_attempts_are_stored(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    let events = [event("sms", user, "1"), event("sms", user, "2")];
    add(&store, &events).await;
    let lane = claim(&store, 1, 1).await.remove(0);

    let later = LaneUpdate::Waiting(at(5), 3);
    assert!(settle(&store, &lane, at(2), DeliveryOutcome::Pending, later).await);
    assert!(claim(&store, 4, 1).await.is_empty());
    let lane = claim(&store, 5, 1).await.remove(0);
    assert_eq!(lane.failures, 3);
    let again = store.due_events(&lane, 1).await.unwrap().remove(0);
    assert_eq!((again.body.as_str(), again.attempts), ("1", 1));
    let held = LaneUpdate::Renewed(at(30));
    assert!(settle(&store, &lane, at(6), DeliveryOutcome::Delivered, held).await);
    let refused = DeliveryOutcome::Failed("refused");
    assert!(settle(&store, &lane, at(7), refused, held).await);
    assert!(claim(&store, 29, 1).await.is_empty());

    let record = store.event(&channel("sms"), events[0].id).await.unwrap();
    let record = record.unwrap();
    assert_eq!(record.delivery, Some(DeliveryState::Delivered));
    assert_eq!((record.position, record.body.as_str()), (1, "1"));
    let numbers: Vec<_> = record.attempts.iter().map(|a| (a.number, a.at)).collect();
    assert_eq!(numbers, [(1, at(2)), (2, at(6))]);
    assert_eq!(record.attempts[0].status, Some(500));
    assert_eq!(record.attempts[0].duration_ms, 42);
    let second = store.event(&channel("sms"), events[1].id).await.unwrap();
    assert_eq!(second.unwrap().failure.as_deref(), Some("refused"));
    let other = store.event(&channel("app"), events[0].id).await.unwrap();
    assert_eq!(other, None, "another channel's event");
}

async fn a_lost_lease_settles_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    let events = [event("sms", user, "1")];
    add(&store, &events).await;
    let lost = claim(&store, 1, 1).await.remove(0);
    let theirs = store
        .claim_delivery_lanes(&channel("sms"), "theirs", at(16), at(31), 1)
        .await
        .unwrap();
    assert_eq!(theirs.len(), 1);

    let held = LaneUpdate::Renewed(at(40));
    assert!(!settle(&store, &lost, at(17), DeliveryOutcome::Delivered, held).await);
    store.release_emptied_lane(&lost, at(17)).await.unwrap();
    store.release_lane_due_now(&lost, at(17)).await.unwrap();

    assert_eq!(
        state(&store, events[0].id).await,
        Some(DeliveryState::Pending)
    );
    let record = store.event(&channel("sms"), events[0].id).await.unwrap();
    assert_eq!(record.unwrap().attempts, []);
    assert!(claim(&store, 30, 1).await.is_empty(), "the lane is leased");
    // After the erasure of its user, a lane has no events.
    erase(&store, user, 18).await;
    assert!(store.due_events(&theirs[0], 1).await.unwrap().is_empty());
}

async fn concurrent_delivery_settlements_keep_their_own_outcomes(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut events = Vec::new();
    for n in 0..40 {
        let user = user(&store, &format!("user-{n}")).await;
        events.push(event("sms", user, &n.to_string()));
    }
    add(&store, &events).await;
    let lost = claim(&store, 1, 10).await;
    let held = store
        .claim_delivery_lanes(&channel("sms"), "theirs", at(16), at(60), 40)
        .await
        .unwrap();
    assert_eq!((lost.len(), held.len()), (10, 40));

    // All events are read before the first one is settled.
    let mut settlements = Vec::new();
    for (lane, is_lost) in lost
        .into_iter()
        .map(|lane| (lane, true))
        .chain(held.into_iter().map(|lane| (lane, false)))
    {
        let event = store.due_events(&lane, 1).await.unwrap().remove(0);
        settlements.push((lane, event, is_lost));
    }
    let mut tasks = JoinSet::new();
    for (lane, event, is_lost) in settlements {
        let store = store.clone();
        tasks.spawn(async move {
            let number: u32 = event.body.parse().unwrap();
            let (outcome, update) = match number % 4 {
                0 => (DeliveryOutcome::Delivered, LaneUpdate::Emptied),
                1 => (
                    DeliveryOutcome::Failed("refused"),
                    LaneUpdate::Renewed(at(90)),
                ),
                2 => (DeliveryOutcome::Dropped, LaneUpdate::Emptied),
                _ => (
                    DeliveryOutcome::Pending,
                    LaneUpdate::Waiting(at(70), number),
                ),
            };
            let now = at(20 + i64::from(number));
            let is_held = settle_event(&store, &lane, &event, now, outcome, update).await;
            assert_eq!(is_held, !is_lost, "{number}");
        });
    }
    tasks.join_all().await;

    for (n, event) in (0_u32..).zip(&events) {
        let record = store.event(&channel("sms"), event.id).await.unwrap();
        let record = record.unwrap();
        let expected = match n % 4 {
            0 => (DeliveryState::Delivered, None),
            1 => (DeliveryState::Failed, Some("refused")),
            2 => (DeliveryState::Dropped, None),
            _ => (DeliveryState::Pending, None),
        };
        let found = (record.delivery.unwrap(), record.failure.as_deref());
        assert_eq!(found, expected, "{n}");
        let attempts: Vec<_> = record.attempts.iter().map(|a| (a.number, a.at)).collect();
        assert_eq!(attempts, [(1, at(20 + i64::from(n)))], "{n}");
    }
    let mut waiting: Vec<_> = claim(&store, 70, 40).await;
    waiting.sort_by_key(|lane| lane.failures);
    let failures: Vec<_> = waiting.iter().map(|lane| lane.failures).collect();
    assert_eq!(failures, (0..40).skip(3).step_by(4).collect::<Vec<_>>());
    assert_eq!(claim(&store, 90, 40).await.len(), 20, "the renewed lanes");
}

async fn one_failing_delivery_settlement_does_not_fail_batched_ones(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut events = Vec::new();
    for n in 0..20 {
        let user = user(&store, &format!("user-{n}")).await;
        events.push(event("sms", user, &n.to_string()));
    }
    add(&store, &events).await;
    // An attempt with the number that the next attempt would have.
    let taken = "INSERT INTO attempts (event_id, number, at, duration_ms) SELECT id, 1, 0, 0 FROM events WHERE body = '7'";
    database.execute(taken).await;

    let mut tasks = JoinSet::new();
    for lane in claim(&store, 1, 20).await {
        let store = store.clone();
        tasks.spawn(async move {
            let event = store.due_events(&lane, 1).await.unwrap().remove(0);
            let attempt = DeliveryAttempt {
                at: at(2),
                duration_ms: 1,
                status: Some(422),
                error: None,
            };
            let (outcome, update) = (DeliveryOutcome::Failed("refused"), LaneUpdate::Emptied);
            let settled =
                store.settle_delivery(&lane, &event, Some(&attempt), outcome, update, at(2));
            let is_stored = settled.await.is_ok();
            (event.body, is_stored)
        });
    }
    let outcomes = tasks.join_all().await;

    for (body, is_stored) in outcomes {
        assert_eq!(is_stored, body != "7", "{body}");
    }
    for (n, event) in events.iter().enumerate() {
        let expected = match n {
            7 => DeliveryState::Pending,
            _ => DeliveryState::Failed,
        };
        assert_eq!(state(&store, event.id).await, Some(expected), "{n}");
    }
}

async fn events_added_while_many_lanes_empty_are_not_lost(engine: Engine) {
    const USERS: usize = 12;
    const ROUNDS: usize = 15;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut users = Vec::new();
    for n in 0..USERS {
        users.push(user(&store, &format!("user-{n}")).await);
    }
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let events: Vec<_> = users
                    .iter()
                    .map(|user| event("sms", *user, &round.to_string()))
                    .collect();
                add(&store, &events).await;
            }
        })
    };

    // Loops until all events have come and no lane is due.
    let mut delivered = 0;
    loop {
        let all_added = writer.is_finished();
        let lanes = claim(&store, 2, 20).await;
        if lanes.is_empty() && all_added {
            break;
        }
        let mut tasks = JoinSet::new();
        for lane in lanes {
            let store = store.clone();
            tasks.spawn(async move {
                let count = store.due_events(&lane, 100).await.unwrap().len();
                if count == 0 {
                    // The event that made the lane due was delivered together with earlier ones.
                    store.release_emptied_lane(&lane, at(2)).await.unwrap();
                }
                for remaining in (0..count).rev() {
                    let update = match remaining {
                        0 => LaneUpdate::Emptied,
                        _ => LaneUpdate::Renewed(at(100)),
                    };
                    let is_held =
                        settle(&store, &lane, at(2), DeliveryOutcome::Delivered, update).await;
                    assert!(is_held);
                }
                count
            });
        }
        delivered += tasks.join_all().await.into_iter().sum::<usize>();
    }
    writer.await.unwrap();

    assert_eq!(delivered, USERS * ROUNDS);
    let sms = channel("sms");
    let pending = store.deliveries(&sms, DeliveryState::Pending, None, 9);
    assert_eq!(pending.await.unwrap(), []);
}

async fn concurrent_callback_failures_are_all_counted(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let fail_at_once = async |id: &'static str, times: u32| {
        let mut tasks = JoinSet::new();
        for _ in 0..times {
            let store = store.clone();
            tasks.spawn(async move {
                let id = channel(id);
                store.callback_failed(&id, false, at(3)).await.unwrap()
            });
        }
        tasks.join_all().await.into_iter().max().unwrap()
    };

    let (sms, app) = tokio::join!(fail_at_once("sms", 19), fail_at_once("app", 50));

    assert_eq!((sms, app), (PROBE_AFTER_FAILURES - 1, PROBE_AFTER_FAILURES));
    let schedule = store.callback_schedule(&channel("sms")).await.unwrap();
    assert_eq!((schedule.failures, schedule.probe_at), (19, None));
    let schedule = store.callback_schedule(&channel("app")).await.unwrap();
    assert_eq!(schedule.failures, PROBE_AFTER_FAILURES);
    assert_eq!(schedule.probe_at, Some(at(3)));
    assert_eq!(fail_at_once("sms", 9).await, PROBE_AFTER_FAILURES);
}

async fn an_event_added_while_its_lane_empties_is_not_lost(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    add(&store, &[event("sms", user, "1")]).await;
    let lane = claim(&store, 1, 1).await.remove(0);
    let held = LaneUpdate::Renewed(at(20));
    assert!(settle(&store, &lane, at(2), DeliveryOutcome::Delivered, held).await);
    assert!(bodies(&store, &lane).await.is_empty());

    add(&store, &[event("sms", user, "2")]).await;
    store.release_emptied_lane(&lane, at(3)).await.unwrap();

    let lane = claim(&store, 3, 1).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["2"]);
    add(&store, &[event("sms", user, "3")]).await;
    let emptied = LaneUpdate::Emptied;
    assert!(settle(&store, &lane, at(4), DeliveryOutcome::Delivered, emptied).await);
    let lane = claim(&store, 4, 1).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["3"]);
    assert!(settle(&store, &lane, at(5), DeliveryOutcome::Delivered, emptied).await);
    assert!(claim(&store, 900, 1).await.is_empty(), "it is empty");
    add(&store, &[event("sms", user, "4")]).await;
    let lane = claim(&store, 6, 1).await.remove(0);
    assert!(settle(&store, &lane, at(6), DeliveryOutcome::Delivered, held).await);
    store.release_emptied_lane(&lane, at(6)).await.unwrap();
    assert!(claim(&store, 900, 1).await.is_empty(), "it is empty");
    let schedule = store.callback_schedule(&channel("sms")).await.unwrap();
    assert_eq!(schedule.due_at, None);
}

async fn a_released_delivery_lane_is_due_at_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    add(&store, &[event("sms", user, "1")]).await;
    let lane = claim(&store, 1, 1).await.remove(0);

    store.release_lane_due_now(&lane, at(2)).await.unwrap();

    let lane = claim(&store, 2, 1).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["1"]);
}

async fn fail(store: &Store, times: u32) -> u32 {
    let mut failures = 0;
    for _ in 0..times {
        failures = store
            .callback_failed(&channel("sms"), false, at(3))
            .await
            .unwrap();
    }
    failures
}

async fn twenty_failures_allow_one_probe_at_a_time(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    for name in ["a", "b"] {
        let user = user(&store, name).await;
        add(&store, &[event("sms", user, name)]).await;
        let lane = claim(&store, 1, 1).await.remove(0);
        let waiting = LaneUpdate::Waiting(at(4), 1);
        settle(&store, &lane, at(2), DeliveryOutcome::Pending, waiting).await;
    }
    let probe = async |now| {
        let until = at(now + 15);
        let claim = store.claim_probe(&sms, "probe", at(now), until).await;
        claim.unwrap()
    };

    assert_eq!(
        fail(&store, PROBE_AFTER_FAILURES - 1).await,
        PROBE_AFTER_FAILURES - 1
    );
    assert_eq!(probe(9).await, None);
    assert_eq!(
        fail(&store, 3).await,
        PROBE_AFTER_FAILURES,
        "only the probes add to this number"
    );

    let schedule = store.callback_schedule(&sms).await.unwrap();
    assert_eq!(schedule.failures, PROBE_AFTER_FAILURES);
    assert_eq!(schedule.probe_at, Some(at(3)));
    assert_eq!(schedule.due_at, Some(at(4)));
    assert_eq!(probe(2).await, None, "it is not time yet");
    assert_eq!(probe(3).await, None, "no lane is due");
    assert!(probe(4).await.is_some());
    assert_eq!(probe(18).await, None, "one at a time");
    let failures = store.callback_failed(&sms, true, at(5)).await.unwrap();
    assert_eq!(failures, PROBE_AFTER_FAILURES + 1);
    store.schedule_probe(&sms, at(9)).await.unwrap();
    assert_eq!(probe(8).await, None);
    let lane = probe(9).await.unwrap();
    let waiting = LaneUpdate::Waiting(at(300), 2);
    settle(&store, &lane, at(10), DeliveryOutcome::Pending, waiting).await;

    store.callback_succeeded(&sms, at(10)).await.unwrap();

    let schedule = store.callback_schedule(&sms).await.unwrap();
    assert_eq!((schedule.failures, schedule.probe_at), (0, None));
    assert_eq!(claim(&store, 10, 9).await.len(), 1, "the other lane is due");
}

async fn a_success_resets_the_callback_failure_count(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");

    store.callback_succeeded(&sms, at(1)).await.unwrap();
    fail(&store, 19).await;
    store.callback_succeeded(&sms, at(1)).await.unwrap();

    assert_eq!(fail(&store, 1).await, 1);
    let schedule = store.callback_schedule(&sms).await.unwrap();
    assert_eq!(schedule.probe_at, None);
    let other = store.callback_schedule(&channel("app")).await.unwrap();
    assert_eq!(other.failures, 0);
}

async fn a_resumed_callback_has_due_lanes_again(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = user(&store, "a").await;
    add(&store, &[event("sms", user, "1")]).await;
    let lane = claim(&store, 1, 1).await.remove(0);
    let waiting = LaneUpdate::Waiting(at(300), 9);
    settle(&store, &lane, at(2), DeliveryOutcome::Pending, waiting).await;
    fail(&store, 20).await;

    store.pause_callback(&sms, at(2)).await.unwrap();
    store.pause_callback(&sms, at(3)).await.unwrap();
    assert!(store.callback_schedule(&sms).await.unwrap().paused);
    let probe = store.claim_probe(&sms, "probe", at(900), at(915)).await;
    assert_eq!(probe.unwrap(), None);

    let resumed = recorded(1, 4, Action::ResumeDeliveries);
    store.resume_callback(&sms, at(4), &resumed).await.unwrap();

    let schedule = store.callback_schedule(&sms).await.unwrap();
    assert!(!schedule.paused && schedule.failures == 0);
    assert_eq!(claim(&store, 4, 1).await.len(), 1);
    // A callback that has never been called.
    let app = channel("app");
    store.resume_callback(&app, at(4), &resumed).await.unwrap();
}

async fn a_callback_pause_keeps_its_first_reason(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = user(&store, "a").await;
    add(&store, &[event("sms", user, "1")]).await;
    let paused = |number, second| recorded(number, second, Action::PauseDeliveries);
    let resumed = |number, second| recorded(number, second, Action::ResumeDeliveries);
    let pause = async || {
        let backlogs = store.backlogs(std::iter::once(&sms)).await.unwrap();
        let schedule = store.callback_schedule(&sms).await.unwrap();
        assert_eq!(schedule.paused, backlogs[0].callback_pause.is_some());
        backlogs[0].callback_pause
    };
    let since = |second, by_operator| {
        Some(Pause {
            since: at(second),
            by_operator,
        })
    };
    let mut wakeup = store.wakeup(&sms);
    let listening = tokio::task::spawn(store.clone().listen());
    if matches!(engine, Engine::Postgres) {
        // Every wake-up fires once when listening begins.
        wakeup.wait().await;
    }

    assert_eq!(pause().await, None);
    store
        .pause_callback_by_operator(&sms, at(2), &paused(1, 2))
        .await
        .unwrap();
    wakeup.wait().await;
    store
        .pause_callback_by_operator(&sms, at(3), &paused(2, 3))
        .await
        .unwrap();
    store.pause_callback(&sms, at(4)).await.unwrap();
    assert_eq!(pause().await, since(2, true));
    store
        .resume_callback(&sms, at(5), &resumed(3, 5))
        .await
        .unwrap();
    assert_eq!(pause().await, None);
    store.pause_callback(&sms, at(6)).await.unwrap();
    store
        .pause_callback_by_operator(&sms, at(7), &paused(4, 7))
        .await
        .unwrap();

    assert_eq!(pause().await, since(6, false));
    let recorded = store.recorded_actions(at(0), Some(&sms), 9).await.unwrap();
    let actions: Vec<_> = recorded.iter().map(|record| &record.action[..]).collect();
    let (pause, resume) = ("deliveries.pause", "deliveries.resume");
    assert_eq!(actions, [pause, pause, resume, pause]);
    listening.abort();
}

async fn expired_events_are_given_up(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    let until = |second, kind| NewEvent {
        deliver_until: Some(at(second)),
        kind,
        ..event("sms", user, "{}")
    };
    let events = [
        until(10, EventType::MessageCreated),
        until(10, EventType::ConversationClosed),
        until(10, EventType::TypingChanged),
        until(11, EventType::MessageCreated),
    ];
    add(&store, &events).await;

    let expired = store.give_up_old_events(at(11), at(11), 2).await.unwrap();
    assert_eq!(expired, 2);
    let expired = store.give_up_old_events(at(11), at(11), 2).await.unwrap();
    assert_eq!(expired, 1);
    assert_eq!(
        store.give_up_old_events(at(11), at(11), 2).await.unwrap(),
        0
    );

    let mut states = Vec::new();
    for event in &events {
        states.push(state(&store, event.id).await.unwrap());
    }
    let expected = [
        DeliveryState::Failed,
        DeliveryState::Failed,
        DeliveryState::Dropped,
        DeliveryState::Pending,
    ];
    assert_eq!(states, expected);
    let record = store.event(&channel("sms"), events[0].id).await.unwrap();
    assert_eq!(record.unwrap().failure.as_deref(), Some("too old"));
    let nacks = store.claim_due_nacks(at(11), at(21), 9).await.unwrap();
    let nacks: Vec<_> = nacks.into_iter().map(|due| due.event_id).collect();
    assert_eq!(nacks, [events[0].id.to_string()]);
}

async fn deliveries_are_listed_by_state(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = user(&store, "a").await;
    let events: Vec<_> = (0..4).map(|_| event("sms", user, "{}")).collect();
    add(&store, &events).await;
    let lane = claim(&store, 1, 1).await.remove(0);
    let held = LaneUpdate::Renewed(at(20));
    settle(&store, &lane, at(2), DeliveryOutcome::Delivered, held).await;
    settle(
        &store,
        &lane,
        at(2),
        DeliveryOutcome::Failed("refused"),
        held,
    )
    .await;
    let list = async |state, after, limit| {
        let list = store.deliveries(&sms, state, after, limit).await.unwrap();
        list.into_iter().map(|d| d.position).collect::<Vec<_>>()
    };

    assert_eq!(list(DeliveryState::Pending, None, 9).await, [3, 4]);
    assert_eq!(list(DeliveryState::Pending, None, 1).await, [3]);
    assert_eq!(list(DeliveryState::Pending, Some(3), 9).await, [4]);
    assert_eq!(list(DeliveryState::Delivered, None, 9).await, [1]);
    assert!(list(DeliveryState::Dropped, None, 9).await.is_empty());
    let failed = store.deliveries(&sms, DeliveryState::Failed, None, 9).await;
    let failed = failed.unwrap().remove(0);
    assert_eq!(failed.id, events[1].id);
    assert_eq!(failed.kind, "message.created");
    assert_eq!(failed.user_id, Some("a".parse().unwrap()));
    assert_eq!((failed.attempts, failed.created_at), (1, at(1)));
    assert_eq!(failed.deliver_until, Some(at(UNTIL)));
    assert_eq!(failed.failure.as_deref(), Some("refused"));
    let other = store
        .deliveries(&channel("app"), DeliveryState::Pending, None, 9)
        .await;
    assert_eq!(other.unwrap(), []);
}

async fn a_failed_or_delivered_event_can_be_retried(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = user(&store, "a").await;
    let typing = NewEvent {
        kind: EventType::TypingChanged,
        ..event("sms", user, "typing")
    };
    let events = [event("sms", user, "1"), event("sms", user, "2"), typing];
    add(&store, &events).await;
    let lane = claim(&store, 1, 1).await.remove(0);
    let held = LaneUpdate::Renewed(at(20));
    settle(
        &store,
        &lane,
        at(2),
        DeliveryOutcome::Failed("refused"),
        held,
    )
    .await;
    settle(&store, &lane, at(2), DeliveryOutcome::Delivered, held).await;
    settle(&store, &lane, at(2), DeliveryOutcome::Dropped, held).await;
    store.release_emptied_lane(&lane, at(2)).await.unwrap();
    let retry = async |channel_id, id| {
        let channel_id = channel(channel_id);
        let action = Action::RetryDelivery {
            event_id: id,
            kind: "message.created".to_owned(),
        };
        let entry = recorded(1, 3, action);
        let retried = store.retry_delivery(&channel_id, id, at(3), at(2000), &entry);
        retried.await.unwrap()
    };

    assert_eq!(retry("sms", events[0].id).await, Some(true));
    assert_eq!(retry("sms", events[1].id).await, Some(true));
    assert_eq!(retry("sms", events[2].id).await, Some(false));
    assert_eq!(retry("app", events[0].id).await, None);

    let nacks = store.claim_due_nacks(at(900), at(910), 9).await.unwrap();
    assert_eq!(nacks, [], "it may still arrive");
    let lane = claim(&store, 3, 1).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["1", "2"]);
    let record = store.event(&sms, events[0].id).await.unwrap().unwrap();
    assert_eq!(record.deliver_until, Some(at(2000)));
    assert_eq!((record.failure, record.attempts.len()), (None, 1));
    // A waiting delivery becomes due at once.
    let waiting = LaneUpdate::Waiting(at(300), 9);
    settle(&store, &lane, at(4), DeliveryOutcome::Pending, waiting).await;
    assert!(claim(&store, 5, 1).await.is_empty());
    assert_eq!(retry("sms", events[0].id).await, Some(true));
    assert_eq!(claim(&store, 5, 1).await.len(), 1);
}

/// Returns the audit log action of a replay of this many events.
pub(super) fn replaying(replay: &ReplaySelection, count: u64) -> Action {
    Action::ReplayDeliveries {
        since: replay.since,
        until: replay.until,
        state: replay.state.map(DeliveryState::as_str),
        of_one_user: replay.user.is_some(),
        count,
    }
}

async fn a_replay_selects_events_by_its_filter(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (a, b) = (user(&store, "a").await, user(&store, "b").await);
    let typing = NewEvent {
        kind: EventType::TypingChanged,
        ..event("sms", a, "typing")
    };
    let events = [event("sms", a, "1"), event("sms", b, "2"), typing];
    add(&store, &events).await;
    for lane in claim(&store, 1, 9).await {
        while !bodies(&store, &lane).await.is_empty() {
            let held = LaneUpdate::Renewed(at(20));
            let failed = DeliveryOutcome::Failed("refused");
            settle(&store, &lane, at(2), failed, held).await;
        }
        store.release_emptied_lane(&lane, at(2)).await.unwrap();
    }
    let added = NewEvent {
        deliver_until: None,
        ..event("sms", a, "late")
    };
    append(&store, &[added], at(5)).await;
    let all = ReplaySelection {
        since: at(0),
        until: None,
        state: None,
        user: None,
    };
    let count = async |replay: &ReplaySelection, dry_run| {
        let sms = channel("sms");
        if dry_run {
            return store.count_replayable(&sms, replay).await.unwrap();
        }
        let entry = |count| recorded(1, 6, replaying(replay, count));
        let replayed = store.replay_deliveries(&sms, replay, at(6), at(UNTIL), entry);
        replayed.await.unwrap()
    };

    assert_eq!(count(&all, true).await, 3, "all but the typing");
    let since = ReplaySelection {
        since: at(2),
        ..all.clone()
    };
    assert_eq!(count(&since, true).await, 1);
    let until = ReplaySelection {
        until: Some(at(5)),
        ..all.clone()
    };
    assert_eq!(count(&until, true).await, 2);
    let failed = ReplaySelection {
        state: Some(DeliveryState::Failed),
        ..all.clone()
    };
    assert_eq!(count(&failed, true).await, 2);
    let delivered = ReplaySelection {
        state: Some(DeliveryState::Delivered),
        ..all.clone()
    };
    assert_eq!(count(&delivered, true).await, 0);
    let of = |name| ReplaySelection {
        user: Some(key(name)),
        ..all.clone()
    };
    assert_eq!(count(&of("nobody"), false).await, 0);
    assert!(
        claim(&store, 6, 9).await.is_empty(),
        "a dry run does nothing"
    );

    assert_eq!(count(&of("b"), false).await, 1);
    let lane = claim(&store, 6, 9).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["2"]);
    assert_eq!(count(&all, false).await, 2);
    let lane = claim(&store, 6, 9).await.remove(0);
    assert_eq!(bodies(&store, &lane).await, ["1", "late"]);
    // Pending events become due at once if the replay asks for them.
    let waiting = LaneUpdate::Waiting(at(300), 9);
    settle(&store, &lane, at(7), DeliveryOutcome::Pending, waiting).await;
    assert_eq!(count(&all, false).await, 0);
    assert!(claim(&store, 7, 9).await.is_empty());
    let pending = ReplaySelection {
        state: Some(DeliveryState::Pending),
        ..all
    };
    assert_eq!(count(&pending, false).await, 3);
    assert_eq!(claim(&store, 7, 9).await.len(), 1);
}

async fn agents_are_notified_only_of_failed_messages(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user(&store, "a").await;
    let receipt = NewEvent {
        kind: EventType::ReceiptChanged,
        ..event("sms", user, "receipt")
    };
    let message = event("sms", user, "message");
    let id = message.id.to_string();
    add(&store, &[receipt, message]).await;
    let lane = claim(&store, 1, 1).await.remove(0);
    let held = LaneUpdate::Renewed(at(20));
    settle(
        &store,
        &lane,
        at(2),
        DeliveryOutcome::Failed("refused"),
        held,
    )
    .await;
    settle(
        &store,
        &lane,
        at(2),
        DeliveryOutcome::Failed("refused"),
        held,
    )
    .await;

    assert!(
        store
            .claim_due_nacks(at(1), at(11), 9)
            .await
            .unwrap()
            .is_empty()
    );
    let due = store.claim_due_nacks(at(2), at(12), 9).await.unwrap();

    assert_eq!(due.len(), 1);
    assert_eq!((&due[0].event_id, due[0].body.as_str()), (&id, "message"));
    assert_eq!(due[0].key, key("a"));
    let again = store.claim_due_nacks(at(11), at(21), 9).await.unwrap();
    assert!(again.is_empty(), "it is claimed");
    store.clear_nack(&id, at(11)).await.unwrap();
    let again = store.claim_due_nacks(at(12), at(22), 9).await.unwrap();
    assert_eq!(again.len(), 1, "only the claimant can clear it");
    store.clear_nack(&id, at(22)).await.unwrap();
    assert!(
        store
            .claim_due_nacks(at(99), at(100), 9)
            .await
            .unwrap()
            .is_empty()
    );
}
