//! Openings by the bridge and by agents: the user gets one conversation, whichever comes first.

use liveperson_bridge::store::{
    Admission, Arrival, ArrivalOutcome, Change, KnownConversation, NewEvent, PageSize,
    PendingOpening, Store, StoredToken, Translation, UnknownConversation, UserRef,
};
use liveperson_bridge::types::conversation::{
    Announced, ConversationChange, Features, OpenedBy, State,
};
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::ids::{ChannelId, UserKey};
use liveperson_bridge::types::profile::Profile;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::log::channel;
use super::{at, erase, key, lease, open, token};
use crate::support::changes::{Translate, translated};
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_pending_opening_is_stored_until_its_outcome_is_known,
    beginning_an_opening_returns_an_already_open_conversation,
    changes_during_an_opening_are_postponed,
    an_unanswered_opening_is_matched_by_its_stored_record,
    replicas_notified_at_once_open_a_conversation_once,
    concurrent_openings_of_agent_and_bridge_leave_one_conversation,
    concurrent_agent_openings_do_not_deadlock,
    an_agent_opening_goes_to_the_consumers_latest_user,
    a_late_state_does_not_resurrect_an_erased_user,
);

/// A translation by the changes' bodies: `state 7 open` is a conversation that began at second 7.
struct BodyTranslation(Vec<String>);

impl BodyTranslation {
    fn of<'a>(&'a self, change: Change<'a>) -> Vec<&'a str> {
        let body = match change {
            Change::Arrived(index) => &self.0[index],
            Change::Stored { body, .. } => body,
        };
        body.split(' ').collect()
    }
}

fn event(known: &KnownConversation, body: String) -> NewEvent {
    NewEvent {
        id: EventId::new(Uuid::new_v4()),
        channel_id: known.channel_id.clone(),
        user: Some(known.user),
        kind: EventType::MessageCreated,
        body,
        parent: None,
        deliver_until: None,
    }
}

impl Translate for BodyTranslation {
    fn translate(
        &self,
        change: Change<'_>,
        known: &KnownConversation,
        _: Option<FileId>,
    ) -> Translation {
        let parts = self.of(change);
        let by = match known.opened_by {
            OpenedBy::User => "user",
            OpenedBy::Agent => "agent",
        };
        let body = format!(
            "{} {} {by}: {}",
            known.user_id,
            known.conversation_id,
            parts.join(" ")
        );
        Translation {
            events: vec![event(known, body)],
            conversation: (parts[0] == "state").then(|| ConversationChange {
                updated_at: Some(at(parts[1].parse().unwrap())),
                announced: Announced::Opened,
                closed: None,
                dialogs: Vec::new(),
                side_dialogs: Vec::new(),
                fingerprint: String::new(),
            }),
            ..Translation::default()
        }
    }

    fn unknown_conversation(&self, change: Change<'_>) -> UnknownConversation {
        match self.of(change)[..] {
            ["state", second, "open"] => UnknownConversation::Open {
                began_at: Some(at(second.parse().unwrap())),
            },
            _ => UnknownConversation::Ended,
        }
    }

    fn channel_of(&self, latest: Option<&ChannelId>) -> Option<ChannelId> {
        Some(latest.cloned().unwrap_or_else(|| channel("app")))
    }

    fn replaced(&self, known: &KnownConversation) -> Option<NewEvent> {
        let body = format!("{} {} replaced", known.user_id, known.conversation_id);
        Some(event(known, body))
    }
}

/// Returns the notification that a consumer's conversation has been open since this second.
fn opened(subject: &str, consumer: &str, second: i64) -> Arrival {
    Arrival {
        account_id: "12345678".parse().unwrap(),
        key: None,
        subject: subject.to_owned(),
        consumer_id: Some(consumer.to_owned()),
        named_dialog: None,
        position: None,
        open: Some(true),
        kind: "conversation",
        body: format!("state {second} open"),
        parent: None,
        signed: None,
    }
}

async fn admit(store: &Store, arrivals: &[Arrival], second: i64) -> Admission {
    let bodies = BodyTranslation(arrivals.iter().map(|it| it.body.clone()).collect());
    let changes = store
        .begin_changes(arrivals, &[], at(second))
        .await
        .unwrap();
    let admission = translated(changes, &bodies).await;
    admission.unwrap()
}

async fn admit_postponed_changes(store: &Store, second: i64) -> Admission {
    let subjects = store.postponed_subjects(9).await.unwrap();
    let bodies = BodyTranslation(Vec::new());
    let changes = store.begin_postponed(&subjects, at(second)).await.unwrap();
    let admission = translated(changes, &bodies).await;
    admission.unwrap()
}

/// Creates a user with a consumer id and no conversation.
async fn user_of(store: &Store, key: &UserKey, consumer: &str) -> UserRef {
    let user = store.ensure_user(key, at(0)).await.unwrap();
    let token = StoredToken {
        consumer_id: consumer.to_owned(),
        ..token(b"t")
    };
    store.set_token(user, &token).await.unwrap();
    user
}

fn opening(second: i64) -> PendingOpening {
    let profile: Profile = serde_json::from_value(json!({"first_name": "Ada"})).unwrap();
    PendingOpening {
        channel_id: channel("whatsapp"),
        features: Features::try_from(vec!["MULTI_DIALOG".to_owned()]).unwrap(),
        profile: Some(profile),
        since: at(second),
        attempted_at: at(second),
    }
}

async fn event_bodies(store: &Store, log: &str) -> Vec<String> {
    let page = store
        .events_after(&channel(log), 0, PageSize::events(1000))
        .await
        .unwrap();
    page.events.into_iter().map(|event| event.body).collect()
}

async fn close(store: &Store, id: &str, second: i64) {
    let id = id.parse().unwrap();
    let closed = store.close_conversation(&id, at(second), None).await;
    assert!(closed.unwrap());
}

/// Returns the open conversation in the user's row, which must equal the latest one.
async fn open_of(store: &Store, user_id: &str) -> Option<String> {
    let user_state = store.user_state(&key(user_id)).await.unwrap();
    let in_user_row = user_state.and_then(|user_state| user_state.open);
    let in_user_row = in_user_row.map(|open| open.id.to_string());
    let latest = store.latest_conversation(&key(user_id)).await.unwrap();
    let latest = latest.filter(|latest| latest.state == State::Open);
    assert_eq!(in_user_row, latest.map(|latest| latest.id.to_string()));
    in_user_row
}

async fn a_pending_opening_is_stored_until_its_outcome_is_known(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;
    let stored = async || store.profile_and_opening(user).await.unwrap().1;
    let (first, second) = (opening(1), opening(2));

    assert_eq!(stored().await, None);
    let none = store.begin_opening(user, &first, at(31)).await.unwrap();
    assert_eq!(none, None);
    assert_eq!(stored().await, Some(first.clone()));
    store.begin_opening(user, &second, at(32)).await.unwrap();
    // Ending another opening deletes no record.
    store.end_opening(user, &first, None).await.unwrap();
    assert_eq!(stored().await, Some(second.clone()));
    store
        .end_opening(user, &second, Some(&first))
        .await
        .unwrap();
    assert_eq!(stored().await, Some(first));
    assert!(open(&store, user, "c1", 3).await);
    assert_eq!(stored().await, None);

    erase(&store, user, 5).await;
    assert!(store.profile_and_opening(user).await.is_err());
    assert!(store.begin_opening(user, &second, at(32)).await.is_err());
}

async fn beginning_an_opening_returns_an_already_open_conversation(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;

    let admission = admit(&store, &[opened("agents", "c-ada", 5)], 10).await;

    assert_eq!(admission.outcomes, [ArrivalOutcome::Adopted(1)]);
    assert_eq!(admission.recheck, ["agents"]);
    let found = store
        .begin_opening(user, &opening(11), at(41))
        .await
        .unwrap();
    assert_eq!(found.unwrap().id.as_str(), "agents");
    assert_eq!(
        event_bodies(&store, "app").await,
        ["ada agents agent: state 5 open"]
    );
}

async fn changes_during_an_opening_are_postponed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;
    let opening = opening(10);
    store.begin_opening(user, &opening, at(40)).await.unwrap();

    let admission = admit(&store, &[opened("c1", "c-ada", 10)], 11).await;
    assert_eq!(admission.outcomes, [ArrivalOutcome::Unmatched]);
    assert_eq!(store.postponed_subjects(9).await.unwrap(), ["c1"]);
    assert_eq!(
        admit_postponed_changes(&store, 39).await,
        Admission::default()
    );
    assert_eq!(open_of(&store, "ada").await, None);

    // The opening's answer has come: the conversation is the user's own.
    assert!(open(&store, user, "c1", 12).await);
    let admission = admit_postponed_changes(&store, 13).await;
    assert_eq!(admission.matched, 1);
    assert_eq!(
        event_bodies(&store, "sms").await,
        ["ada c1 user: state 10 open"]
    );
    assert!(store.postponed_subjects(9).await.unwrap().is_empty());

    // The same applies while a lease on the lane is held: its holder may run an older version that
    // does not record openings.
    let lease = lease("l", 40);
    assert!(store.claim_lane(user, &lease, at(20)).await.unwrap());
    let admission = admit(&store, &[opened("c2", "c-ada", 21)], 21).await;
    assert_eq!(admission.outcomes, [ArrivalOutcome::Unmatched]);
    store.release_lane(user, &lease).await.unwrap();
    let admission = admit_postponed_changes(&store, 22).await;
    assert_eq!(admission.matched, 1);
    assert_eq!(open_of(&store, "ada").await.as_deref(), Some("c2"));
    let bodies = event_bodies(&store, "sms").await;
    assert_eq!(
        bodies[1..],
        ["ada c1 replaced", "ada c2 agent: state 21 open"]
    );
}

async fn an_unanswered_opening_is_matched_by_its_stored_record(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for (user_id, began, by) in [("ada", 12, "user"), ("bob", 12 - 360, "agent")] {
        let consumer = format!("c-{user_id}");
        let user = user_of(&store, &key(user_id), &consumer).await;
        store
            .begin_opening(user, &opening(10), at(40))
            .await
            .unwrap();
        let subject = format!("of-{user_id}");
        admit(&store, &[opened(&subject, &consumer, began)], 11).await;

        let admission = admit_postponed_changes(&store, 40).await;

        assert_eq!(admission.matched, 1, "{user_id}");
        let log = if by == "user" { "whatsapp" } else { "app" };
        let expected = format!("{user_id} {subject} {by}: state {began} open");
        assert_eq!(event_bodies(&store, log).await, [expected]);
        let (profile, pending) = store.profile_and_opening(user).await.unwrap();
        assert_eq!(pending, None);
        let is_own = by == "user";
        assert_eq!(profile == opening(10).profile.unwrap(), is_own);
        let latest = store.latest_conversation(&key(user_id)).await.unwrap();
        assert_eq!(latest.unwrap().features.allows_survey(), is_own);
    }
}

async fn replicas_notified_at_once_open_a_conversation_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;

    for round in 0..10 {
        let former = format!("former-{round}");
        let second = 100 * i64::try_from(round).unwrap();
        open(&store, user, &former, second).await;
        let mut admissions = JoinSet::new();
        for number in 0..6 {
            let (store, subject) = (store.clone(), format!("agents-{round}"));
            admissions.spawn(async move {
                let text = Arrival {
                    consumer_id: None,
                    open: None,
                    body: format!("text {number}"),
                    ..opened(&subject, "c-ada", 0)
                };
                let state = opened(&subject, "c-ada", second + 60 + number);
                let admission = admit(&store, &[text, state], second + 70).await;
                // A replica that stored unmatched changes looks them up again.
                let bodies = BodyTranslation(Vec::new());
                let subjects = &admission.recheck;
                let again = store.begin_changes(&[], subjects, at(second + 70)).await;
                translated(again.unwrap(), &bodies).await.unwrap();
                admission.outcomes
            });
        }

        let outcomes = admissions.join_all().await;

        let adopted = outcomes.iter().flatten();
        let adopted = adopted.filter(|outcome| matches!(outcome, ArrivalOutcome::Adopted(_)));
        assert_eq!(adopted.count(), 1, "{outcomes:?}");
        let subject = format!("agents-{round}");
        assert_eq!(open_of(&store, "ada").await, Some(subject.clone()));
        let events = event_bodies(&store, "sms").await;
        let of_it: Vec<_> = events
            .iter()
            .filter(|body| body.contains(&subject))
            .collect();
        assert_eq!(of_it.len(), 12, "{events:?}");
        assert!(of_it[0].contains("state"), "{of_it:?}");
        let replaced = events.iter().filter(|body| body.contains("replaced"));
        assert_eq!(replaced.count(), round + 1);
        close(&store, &subject, second + 71).await;
    }
}

async fn concurrent_openings_of_agent_and_bridge_leave_one_conversation(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;

    for round in 0..20 {
        let (own, agents) = (format!("own-{round}"), format!("agents-{round}"));
        let second = 1000 * round;
        let opener = {
            let store = store.clone();
            let own = own.clone();
            async move {
                let pending = opening(second + 1);
                let begun = store.begin_opening(user, &pending, at(second + 31));
                if let Some(found) = begun.await.unwrap() {
                    store.end_opening(user, &pending, None).await.unwrap();
                    return found.id.to_string();
                }
                assert!(open(&store, user, &own, second + 2).await);
                own
            }
        };
        let opener = tokio::task::spawn(opener);
        let admission = admit(&store, &[opened(&agents, "c-ada", second + 1)], second + 1).await;
        let found = opener.await.unwrap();

        let open = open_of(&store, "ada").await.unwrap();
        if admission.outcomes == [ArrivalOutcome::Adopted(1)] {
            assert!(open == agents, "{open} instead of {agents}");
        } else {
            assert_eq!(open, found);
            // The Cloud allows one conversation at a time, so the agent's is the one that the
            // opening finds.
            let postponed = store.postponed_subjects(99).await.unwrap();
            assert!(postponed.contains(&agents));
        }
        close(&store, &open, second + 3).await;
    }
}

async fn concurrent_agent_openings_do_not_deadlock(engine: Engine) {
    const USERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
    const ROUNDS: i64 = 30;
    let database = Database::create(engine).await;
    let store = database.store().await;
    for name in USERS {
        let user = user_of(&store, &key(name), &format!("c-{name}")).await;
        open(&store, user, &format!("{name}-own"), 0).await;
    }
    let mut tasks = JoinSet::new();
    for number in 0..4_usize {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 1..=ROUNDS {
                let mut names = USERS;
                names.rotate_left(number);
                let states: Vec<_> = names
                    .iter()
                    .flat_map(|name| {
                        let subject = format!("{name}-{round}-{}", number % 2);
                        let second = 100 * round + i64::try_from(number % 2).unwrap();
                        let own = opened(&format!("{name}-own"), &format!("c-{name}"), second);
                        [opened(&subject, &format!("c-{name}"), second), own]
                    })
                    .collect();
                admit(&store, &states, 100 * round).await;
            }
        });
    }

    tasks.join_all().await;

    for name in USERS {
        let open = open_of(&store, name).await.unwrap();
        assert!(open.starts_with(&format!("{name}-{ROUNDS}-")), "{open}");
    }
}

async fn an_agent_opening_goes_to_the_consumers_latest_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let in_namespace = |namespace: &str| UserKey {
        namespace: namespace.parse().unwrap(),
        ..key("ada")
    };
    for (number, (namespace, second)) in [("sms", 1), ("web", 9), ("app", 5)].iter().enumerate() {
        let user = user_of(&store, &in_namespace(namespace), "shared").await;
        open(&store, user, &format!("c{number}"), *second).await;
    }
    let elsewhere = UserKey {
        account_id: "87654321".parse().unwrap(),
        ..key("ada")
    };
    let user = user_of(&store, &elsewhere, "shared").await;
    open(&store, user, "c3", 20).await;

    let admission = admit(&store, &[opened("agents", "shared", 30)], 30).await;

    assert_eq!(admission.outcomes, [ArrivalOutcome::Adopted(1)]);
    let mut open = Vec::new();
    for key in [
        in_namespace("sms"),
        in_namespace("web"),
        in_namespace("app"),
        elsewhere,
    ] {
        let latest = store.latest_conversation(&key).await.unwrap().unwrap();
        assert_eq!(latest.state, State::Open);
        open.push(latest.id.to_string());
    }
    assert_eq!(open, ["c0", "agents", "c2", "c3"]);
    // A conversation of another account matches no user here.
    let mut foreign = opened("another", "shared", 40);
    foreign.account_id = "11111111".parse().unwrap();
    assert_eq!(
        admit(&store, &[foreign], 40).await.outcomes,
        [ArrivalOutcome::Unmatched]
    );
}

async fn a_late_state_does_not_resurrect_an_erased_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_of(&store, &key("ada"), "c-ada").await;
    assert!(open(&store, user, "past", 1).await);
    erase(&store, user, 5).await;

    let after_erasure = admit(&store, &[opened("past", "c-ada", 6)], 6).await;
    assert_eq!(after_erasure.outcomes, [ArrivalOutcome::Erased]);
    // The same person has written again.
    user_of(&store, &key("ada"), "c-ada").await;
    let late = admit(&store, &[opened("past", "c-ada", 7)], 7).await;
    assert_eq!(late.outcomes, [ArrivalOutcome::Erased]);
    assert_eq!(open_of(&store, "ada").await, None);
    let next = admit(&store, &[opened("next", "c-ada", 8)], 8).await;
    assert_eq!(next.outcomes, [ArrivalOutcome::Adopted(1)]);
}

/// A change for a consumer that no user has runs one query, which uses an index.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_found_by_consumer_id_without_a_scan() {
    let database = Database::create(Engine::Postgres).await;
    let store = database.store().await;
    database
        .execute(
            "INSERT INTO users (account_id, namespace, user_id, consumer_id, created_at)
             SELECT '12345678', 'sms', 'user ' || g, 'c ' || g, 1 FROM generate_series(1, 2000) g",
        )
        .await;

    for number in 0..20 {
        let subject = format!("another {number}");
        let admission = admit(&store, &[opened(&subject, "somebody", 1)], 1).await;
        assert_eq!(admission.outcomes, [ArrivalOutcome::Unmatched]);
    }

    let read = super::entries_read(&database, store, "users", 20).await;
    assert!(read < 2000, "{read} entries were read");
}
