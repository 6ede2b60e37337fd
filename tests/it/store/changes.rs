//! The Cloud's changes: accepted once, matched, or stored until they can be matched.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{
    Admission, Arrival, ArrivalOutcome, Change, DialogPosition, Echo, HostedFile,
    KnownConversation, NewEvent, PageSize, Store, Translation,
};
use liveperson_bridge::types::conversation::{
    Announced, CloseReason, Closed, ConversationChange, Dialog, DialogKind, SideDialog, State,
};
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::sketch::Sketch;
use uuid::Uuid;

use super::log::channel;
use super::{at, entries_read, erase, key, open, report_dialog, survey, token};
use crate::support::changes::{Translate, translated};
use crate::support::database::{Database, Engine};

on_both_engines!(
    a_change_is_accepted_once_and_in_order_of_arrival,
    a_change_without_a_key_is_accepted_each_time,
    changes_of_a_dialog_are_delivered_in_sequence_order,
    unmatched_changes_are_delivered_once_the_conversation_is_known,
    an_unmatched_change_of_another_account_is_not_matched,
    only_a_newer_state_changes_the_conversation,
    concurrent_states_of_a_conversation_are_accepted_in_order,
    a_survey_message_is_matched_once_its_dialog_is_known,
    messages_wait_for_their_dialog_and_private_ones_are_dropped,
    a_dialog_can_be_announced_in_the_same_batch,
    messages_of_an_unannounced_dialog_are_released_in_time,
    erasure_deletes_messages_that_wait_for_their_dialog,
    an_agents_file_gets_one_id,
    an_unmatched_open_conversation_is_found_by_its_consumer,
    unmatched_changes_that_can_be_matched_are_found,
    unmatched_changes_of_a_conversation_are_listed_and_dropped,
    a_second_connection_reads_the_database_beside_its_owner,
    an_erased_users_unmatched_changes_are_deleted,
    erasure_is_complete_despite_concurrent_notifications,
    concurrent_conversation_changes_do_not_deadlock,
);

/// PostgreSQL caches a plan made while the table is empty, when a full scan costs nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_does_not_scan_other_unmatched_changes() {
    let database = Database::create(Engine::Postgres).await;
    let store = store_with_conversation(&database).await;
    let admit_some = async |numbers: std::ops::Range<u32>| {
        for number in numbers {
            let change = arrival("c1", Some(&number.to_string()), "text");
            assert_eq!(
                admit(&store, &[change], &[]).await.outcomes,
                [ArrivalOutcome::Matched(1)]
            );
        }
    };
    database.execute("VACUUM ANALYZE unmatched_changes").await;
    // PostgreSQL makes a new plan for each of the first five executions.
    admit_some(0..6).await;
    database
        .execute(
            "INSERT INTO unmatched_changes (account_id, subject, kind, body, received_at)
             SELECT 'a', 'subject ' || g, 'message', '', 1 FROM generate_series(1, 2000) g",
        )
        .await;

    admit_some(6..26).await;

    let read = entries_read(&database, store, "unmatched_changes", 26).await;
    assert!(read < 2000, "{read} entries were read");
}

/// Access to the bodies of changes.
struct Bodies;

impl Bodies {
    fn body<'a>(change: &'a Change<'a>, arrivals: &'a [String]) -> &'a str {
        match change {
            Change::Arrived(index) => &arrivals[*index],
            Change::Stored { body, .. } => body,
        }
    }
}

/// A translation by the changes' bodies, such as `state 7 open`.
struct Scripted {
    bodies: Vec<String>,
}

impl Scripted {
    fn of(arrivals: &[Arrival]) -> Self {
        Self {
            bodies: arrivals
                .iter()
                .map(|arrival| arrival.body.clone())
                .collect(),
        }
    }
}

impl Translate for Scripted {
    fn file(&self, change: Change<'_>) -> Option<(FileId, HostedFile)> {
        let path = Bodies::body(&change, &self.bodies)
            .strip_prefix("file ")?
            .to_owned();
        let file = HostedFile {
            relative_path: path,
            file_type: "PDF".to_owned().into(),
        };
        Some((FileId::new(Uuid::new_v4()), file))
    }

    fn translate(
        &self,
        change: Change<'_>,
        known: &KnownConversation,
        file: Option<FileId>,
    ) -> Translation {
        let body = Bodies::body(&change, &self.bodies);
        let event = NewEvent {
            id: EventId::new(Uuid::new_v4()),
            channel_id: known.channel_id.clone(),
            user: Some(known.user),
            kind: EventType::MessageCreated,
            body: match file {
                Some(file) => file.to_string(),
                None => format!("{}: {body}", known.user_id),
            },
            parent: None,
            deliver_until: None,
        };
        // "state 7 open", "state 7 closed", "survey 7 dialog-id", "private 7 dialog-id", "other 7
        // dialog-id"
        let mut parts = body.split(' ');
        let change = match (parts.next(), parts.next(), parts.next()) {
            (Some("state"), Some(updated_at), Some(state)) => {
                let updated_at = Some(at(updated_at.parse().unwrap()));
                if known.updated_at >= updated_at {
                    return Translation::default();
                }
                let closed = state == "closed";
                Some(ConversationChange {
                    updated_at,
                    announced: if closed {
                        Announced::Closed
                    } else {
                        Announced::Opened
                    },
                    closed: closed.then(|| Closed {
                        at: at(7),
                        reason: Some(CloseReason("agent".to_owned())),
                    }),
                    dialogs: Vec::new(),
                    side_dialogs: Vec::new(),
                    fingerprint: body.to_owned(),
                })
            }
            (Some("survey"), Some(updated_at), Some(dialog)) => Some(ConversationChange {
                updated_at: Some(at(updated_at.parse().unwrap())),
                announced: Announced::Opened,
                closed: None,
                dialogs: vec![Dialog {
                    id: dialog.parse().unwrap(),
                    kind: DialogKind::PostSurvey,
                    opened_at: at(5),
                    closed_at: None,
                }],
                side_dialogs: Vec::new(),
                fingerprint: body.to_owned(),
            }),
            (Some(kind @ ("private" | "other")), Some(updated_at), Some(dialog)) => {
                Some(ConversationChange {
                    updated_at: Some(at(updated_at.parse().unwrap())),
                    announced: Announced::Opened,
                    closed: None,
                    dialogs: Vec::new(),
                    side_dialogs: vec![SideDialog {
                        id: dialog.parse().unwrap(),
                        is_private: kind == "private",
                    }],
                    fingerprint: body.to_owned(),
                })
            }
            _ => None,
        };
        Translation {
            events: vec![event],
            conversation: change,
            ..Translation::default()
        }
    }
}

/// A translation for which each change is an echo of the user's message.
struct Echoing(Echo);

impl Translate for Echoing {
    fn echo(&self) -> Option<Echo> {
        Some(self.0.clone())
    }
}

/// Admits an echo of a message in conversation `c1`.
pub(super) async fn admit_echo(
    store: &Store,
    sequence: u32,
    digest: &str,
    sent_at: DateTime<Utc>,
    now: DateTime<Utc>,
) {
    let echo = Echo {
        dialog_id: "c1".to_owned(),
        sequence,
        digest: digest.to_owned(),
        sketch: Some(Sketch::of("hello")),
        sent_at: Some(sent_at),
    };
    let arrivals = [arrival("c1", Some(&sequence.to_string()), "echo")];
    let changes = store.begin_changes(&arrivals, &[], now).await.unwrap();
    let admission = translated(changes, &Echoing(echo)).await;
    assert_eq!(admission.unwrap().outcomes, [ArrivalOutcome::Matched(0)]);
}

pub(super) fn arrival(subject: &str, key: Option<&str>, body: &str) -> Arrival {
    Arrival {
        account_id: "12345678".parse().unwrap(),
        key: key.map(str::to_owned),
        subject: subject.to_owned(),
        consumer_id: None,
        named_dialog: None,
        position: None,
        open: match body.split(' ').next() {
            Some("state" | "survey" | "private" | "other") => Some(!body.ends_with("closed")),
            _ => None,
        },
        kind: "message",
        body: body.to_owned(),
        parent: None,
        signed: None,
    }
}

pub(super) async fn admit(store: &Store, arrivals: &[Arrival], appeared: &[&str]) -> Admission {
    let appeared: Vec<_> = appeared
        .iter()
        .map(|subject| (*subject).to_owned())
        .collect();
    let changes = store.begin_changes(arrivals, &appeared, at(10));
    let admission = translated(changes.await.unwrap(), &Scripted::of(arrivals)).await;
    admission.unwrap()
}

async fn event_bodies(store: &Store) -> Vec<String> {
    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(1000))
        .await
        .unwrap();
    page.events.into_iter().map(|event| event.body).collect()
}

async fn store_with_conversation(database: &Database) -> Store {
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    assert!(open(&store, user, "c1", 1).await);
    store
}

async fn a_change_is_accepted_once_and_in_order_of_arrival(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    let bob = store.ensure_user(&key("bob"), at(0)).await.unwrap();
    open(&store, bob, "a-conversation-that-sorts-first", 1).await;

    let batch = [
        arrival("c1", Some("k1"), "one"),
        arrival("a-conversation-that-sorts-first", Some("k2"), "two"),
        arrival("c1", Some("k1"), "one again"),
        arrival("c1", Some("k3"), "three"),
    ];
    let admission = admit(&store, &batch, &[]).await;
    let again = admit(&store, &batch, &[]).await;

    let taken = ArrivalOutcome::Matched(1);
    assert_eq!(
        admission.outcomes,
        [taken, taken, ArrivalOutcome::Duplicate, taken]
    );
    assert_eq!(again.outcomes, [ArrivalOutcome::Duplicate; 4]);
    assert_eq!(
        event_bodies(&store).await,
        ["ada: one", "bob: two", "ada: three"]
    );
}

async fn a_change_without_a_key_is_accepted_each_time(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;

    let typing = arrival("c1", None, "typing");
    admit(&store, &[typing.clone(), typing], &[]).await;

    assert_eq!(event_bodies(&store).await, ["ada: typing", "ada: typing"]);
}

async fn changes_of_a_dialog_are_delivered_in_sequence_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    let positioned = |dialog: &str, sequence| Arrival {
        position: Some(DialogPosition {
            dialog_id: dialog.to_owned(),
            sequence,
        }),
        ..arrival("c1", None, &format!("{dialog}-{sequence}"))
    };
    let delivered_after = async |arrivals: &[Arrival]| {
        admit(&store, arrivals, &[]).await;
        let bodies = event_bodies(&store).await;
        bodies.join(" ").replace("ada: ", "")
    };

    // These changes are stored, and delivered once the conversation is known.
    assert_eq!(
        delivered_after(&[positioned("c1", 1), positioned("c1", 0)]).await,
        ""
    );
    open(&store, user, "c1", 1).await;
    let batch = [
        positioned("c1", 4),
        positioned("survey", 1),
        arrival("c1", None, "typing"),
        positioned("c1", 2),
        positioned("survey", 0),
        positioned("c1", 3),
    ];

    assert_eq!(
        delivered_after(&batch).await,
        "c1-0 c1-1 c1-2 survey-0 typing c1-3 survey-1 c1-4"
    );
}

async fn unmatched_changes_are_delivered_once_the_conversation_is_known(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    let early = [
        arrival("c1", Some("k1"), "one"),
        arrival("c1", Some("k2"), "two"),
    ];

    let admission = admit(&store, &early, &[]).await;
    assert_eq!(
        admission.outcomes,
        [ArrivalOutcome::Unmatched, ArrivalOutcome::Unmatched]
    );
    assert_eq!(admission.recheck, ["c1", "c1"]);
    assert_eq!(
        admit(&store, &early, &["c1"]).await.outcomes,
        [ArrivalOutcome::Duplicate; 2]
    );
    open(&store, user, "c1", 1).await;
    let admission = admit(&store, &[arrival("c1", Some("k3"), "three")], &[]).await;

    assert_eq!(admission.matched, 2);
    assert_eq!(
        event_bodies(&store).await,
        ["ada: one", "ada: two", "ada: three"]
    );
    assert_eq!(admit(&store, &[], &["c1"]).await, Admission::default());
}

async fn an_unmatched_change_of_another_account_is_not_matched(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;

    let mut foreign = arrival("c1", Some("k1"), "one");
    foreign.account_id = "87654321".parse().unwrap();
    let admission = admit(&store, &[foreign], &[]).await;
    admit(&store, &[], &["c1"]).await;

    assert_eq!(admission.outcomes, [ArrivalOutcome::Unmatched]);
    assert!(event_bodies(&store).await.is_empty());
}

async fn only_a_newer_state_changes_the_conversation(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;

    let states = [
        arrival("c1", Some("k1"), "state 5 open"),
        arrival("c1", Some("k2"), "state 9 closed"),
        arrival("c1", Some("k3"), "state 7 open"),
    ];
    let admission = admit(&store, &states, &[]).await;

    assert_eq!(
        admission.outcomes,
        [
            ArrivalOutcome::Matched(1),
            ArrivalOutcome::Matched(1),
            ArrivalOutcome::Matched(0)
        ]
    );
    let latest = store.latest_conversation(&key("ada")).await.unwrap();
    let reason = Some(CloseReason("agent".to_owned()));
    assert_eq!(latest.unwrap().state, State::Closed { at: at(7), reason });
    assert!(
        store
            .user_state(&key("ada"))
            .await
            .unwrap()
            .unwrap()
            .open
            .is_none()
    );
}

async fn concurrent_states_of_a_conversation_are_accepted_in_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            let state = arrival("c1", None, &format!("state {number} open"));
            admit(&store, &[state], &[]).await
        });
    }
    tasks.join_all().await;

    // Each accepted state is newer than all accepted before.
    let bodies = event_bodies(&store).await;
    let numbers: Vec<u32> = bodies
        .iter()
        .map(|body| body.split(' ').nth(2).unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert_eq!(numbers.last(), Some(&19));
}

async fn a_survey_message_is_matched_once_its_dialog_is_known(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;

    admit(&store, &[arrival("d1", Some("k1"), "question")], &[]).await;
    let admission = admit(&store, &[arrival("c1", Some("k2"), "survey 5 d1")], &[]).await;
    assert_eq!(admission.recheck, ["d1"]);
    admit(&store, &[], &["d1"]).await;

    assert_eq!(
        event_bodies(&store).await,
        ["ada: survey 5 d1", "ada: question"]
    );
}

/// Returns an agent's message in a dialog other than the main one.
fn in_dialog(dialog: &str, sequence: u64, body: &str) -> Arrival {
    Arrival {
        named_dialog: Some(dialog.to_owned()),
        position: Some(DialogPosition {
            dialog_id: dialog.to_owned(),
            sequence,
        }),
        ..arrival("c1", Some(&format!("{dialog} {sequence}")), body)
    }
}

async fn messages_wait_for_their_dialog_and_private_ones_are_dropped(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    let mut early = in_dialog("d-private", 0, "secret");
    "c2".clone_into(&mut early.subject);

    // The first comes before its conversation, the others before their dialogs. The user's own
    // message waits for nothing.
    assert_eq!(
        admit(&store, &[early], &[]).await.outcomes,
        [ArrivalOutcome::Unmatched]
    );
    let first = [
        in_dialog("d-private", 1, "secret too"),
        in_dialog("d-survey", 0, "question"),
        in_dialog("d-other", 0, "look here"),
        Arrival {
            named_dialog: None,
            ..in_dialog("d-survey", 1, "answer")
        },
        arrival("c1", Some("main"), "main"),
    ];
    let admission = admit(&store, &first, &[]).await;
    assert_eq!(admission.outcomes[..3], [ArrivalOutcome::Withheld; 3]);
    assert_eq!(admission.outcomes[3..], [ArrivalOutcome::Matched(1); 2]);
    assert_eq!(admission.recheck, ["d-private", "d-survey", "d-other"]);
    let mut expected = vec!["ada: answer", "ada: main"];
    assert_eq!(event_bodies(&store).await, expected);

    for (n, (state, dialog)) in [
        ("private", "d-private"),
        ("survey", "d-survey"),
        ("other", "d-other"),
    ]
    .into_iter()
    .enumerate()
    {
        let body = format!("{state} {n} {dialog}");
        let announced = admit(&store, &[arrival("c1", Some(&body), &body)], &[]).await;
        assert_eq!(announced.recheck, [dialog]);
        let from = store.matchable_subjects(at(0), at(99), 9).await.unwrap();
        assert_eq!(from, [dialog]);
        assert_eq!(admit(&store, &[], &[dialog]).await.matched, 1);
    }
    expected.extend([
        "ada: private 0 d-private",
        "ada: survey 1 d-survey",
        "ada: question",
    ]);
    expected.extend(["ada: other 2 d-other", "ada: look here"]);
    assert_eq!(event_bodies(&store).await, expected);

    // The dialogs are known, so no message waits. In the oldest form, a message names only its
    // dialog.
    let mut old_form = arrival("d-private", Some("old"), "secret");
    old_form.position = in_dialog("d-private", 3, "").position;
    let known = [
        in_dialog("d-private", 2, "secret still"),
        old_form,
        in_dialog("d-survey", 2, "second"),
        in_dialog("d-other", 1, "and here"),
    ];
    let outcomes = admit(&store, &known, &[]).await.outcomes;
    assert_eq!(
        outcomes,
        [
            ArrivalOutcome::Matched(0),
            ArrivalOutcome::Matched(0),
            ArrivalOutcome::Matched(1),
            ArrivalOutcome::Matched(1)
        ]
    );
    expected.extend(["ada: second", "ada: and here"]);
    assert_eq!(event_bodies(&store).await, expected);

    // The message that came before its conversation still waits, because its dialog belongs to
    // another conversation.
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    store
        .close_conversation(&"c1".parse().unwrap(), at(5), None)
        .await
        .unwrap();
    assert!(open(&store, user, "c2", 6).await);
    admit(&store, &[], &["c2"]).await;
    assert_eq!(event_bodies(&store).await, expected);
}

async fn a_dialog_can_be_announced_in_the_same_batch(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    let state = |body: &str| arrival("c1", Some(body), body);

    let batch = [
        in_dialog("d1", 0, "too early"),
        state("other 1 d1"),
        in_dialog("d1", 1, "in time"),
        state("private 2 d2"),
        in_dialog("d2", 0, "secret"),
    ];
    let admission = admit(&store, &batch, &[]).await;
    let again: Vec<_> = admission.recheck.iter().map(String::as_str).collect();
    admit(&store, &[], &again).await;

    let outcomes = admission.outcomes;
    let matched = ArrivalOutcome::Matched(1);
    assert_eq!(outcomes[..3], [ArrivalOutcome::Withheld, matched, matched]);
    assert_eq!(outcomes[3..], [matched, ArrivalOutcome::Matched(0)]);
    let mut bodies = event_bodies(&store).await;
    bodies.sort();
    let expected = ["in time", "other 1 d1", "private 2 d2", "too early"];
    assert_eq!(bodies, expected.map(|body| format!("ada: {body}")));
}

async fn messages_of_an_unannounced_dialog_are_released_in_time(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    // Admitted at second 10.
    admit(&store, &[in_dialog("d1", 0, "lost state")], &[]).await;
    admit(&store, &[arrival("elsewhere", Some("x"), "foreign")], &[]).await;

    assert!(store.release_withheld(at(10)).await.unwrap().is_empty());
    let released = store.release_withheld(at(11)).await.unwrap();
    assert_eq!(released, ["d1"]);
    assert_eq!(admit(&store, &[], &["d1"]).await.matched, 1);
    assert_eq!(event_bodies(&store).await, ["ada: lost state"]);

    // The dialog is announced after all.
    let state = arrival("c1", Some("s"), "private 1 d1");
    admit(&store, &[state, in_dialog("d1", 1, "secret")], &[]).await;
    let later = [
        arrival("c1", Some("t"), "other 2 d1"),
        in_dialog("d1", 2, "secret"),
    ];
    assert_eq!(
        admit(&store, &later, &[]).await.outcomes,
        [ArrivalOutcome::Matched(1), ArrivalOutcome::Matched(0)]
    );
    let expected = ["lost state", "private 1 d1", "other 2 d1"];
    assert_eq!(
        event_bodies(&store).await,
        expected.map(|body| format!("ada: {body}"))
    );
}

async fn erasure_deletes_messages_that_wait_for_their_dialog(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    let state = arrival("c1", Some("s"), "other 1 d-known");
    admit(&store, &[state, in_dialog("d1", 0, "marker")], &[]).await;
    assert!(database.dump().await.contains("marker"));

    erase(&store, user, 11).await;

    assert!(!database.dump().await.contains("marker"));
    let late = [arrival("d-known", Some("late"), "marker")];
    assert_eq!(
        admit(&store, &late, &[]).await.outcomes,
        [ArrivalOutcome::Erased]
    );
}

async fn an_agents_file_gets_one_id(engine: Engine) {
    let database = Database::create(engine).await;
    let store = store_with_conversation(&database).await;

    let file = arrival("c1", None, "file /v1/a.pdf");
    admit(&store, std::slice::from_ref(&file), &[]).await;
    admit(&store, &[file], &[]).await;

    let bodies = event_bodies(&store).await;
    assert_eq!(bodies[0], bodies[1]);
    let id = bodies[0].parse().unwrap();
    let stored = store.file(&key("ada"), id).await.unwrap().unwrap();
    assert_eq!(stored.relative_path, "/v1/a.pdf");
}

async fn an_unmatched_open_conversation_is_found_by_its_consumer(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    store.set_token(user, &token(b"t")).await.unwrap();
    let state = |subject: &str, open| Arrival {
        consumer_id: Some("consumer-1".to_owned()),
        open: Some(open),
        ..arrival(subject, None, "state")
    };
    let found = async || {
        let found = store.unmatched_conversation(user).await;
        found.unwrap().map(String::from)
    };

    assert_eq!(found().await, None);
    admit(&store, &[state("c1", true)], &[]).await;
    assert_eq!(found().await.as_deref(), Some("c1"));
    admit(&store, &[state("c1", false)], &[]).await;
    assert_eq!(found().await, None);
    admit(&store, &[state("c2", true)], &[]).await;
    assert_eq!(found().await.as_deref(), Some("c2"));
    let other = store.ensure_user(&key("bob"), at(0)).await.unwrap();
    assert_eq!(store.unmatched_conversation(other).await.unwrap(), None);
}

async fn unmatched_changes_that_can_be_matched_are_found(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    let early = [arrival("c1", None, "one"), arrival("c2", None, "two")];
    admit(&store, &early, &[]).await;
    open(&store, user, "c1", 1).await;

    let found = async |from, to| store.matchable_subjects(at(from), at(to), 9).await.unwrap();

    assert_eq!(found(10, 11).await, ["c1"]);
    assert!(found(0, 10).await.is_empty() && found(11, 20).await.is_empty());
}

async fn an_erased_users_unmatched_changes_are_deleted(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    open(&store, user, "conversation-1", 1).await;
    store.set_token(user, &token(b"t")).await.unwrap();
    let own = Arrival {
        consumer_id: Some("consumer-1".to_owned()),
        ..arrival("c0", None, "marker of an unknown conversation")
    };
    admit(&store, &[own], &[]).await;
    assert!(database.dump().await.contains("marker"));

    erase(&store, user, 5).await;
    let late = admit(
        &store,
        &[arrival("conversation-1", Some("k1"), "marker, late")],
        &[],
    )
    .await;

    assert_eq!(late.outcomes, [ArrivalOutcome::Erased]);
    let dump = database.dump().await;
    assert!(
        !dump.contains("marker") && !dump.contains("conversation-1"),
        "{dump}"
    );
}

async fn erasure_is_complete_despite_concurrent_notifications(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    for round in 0..20 {
        let conversation = format!("conversation-{round}");
        let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
        open(&store, user, &conversation, 1).await;
        let mut notifications = tokio::task::JoinSet::new();
        for number in 0..6 {
            let (store, conversation) = (store.clone(), conversation.clone());
            notifications.spawn(async move {
                let state = arrival(&conversation, None, &format!("state {number} open"));
                let text = arrival(&conversation, None, "text");
                let arrivals = [state, text];
                let translate = Scripted::of(&arrivals);
                // If the user is erased before a change is admitted, the Cloud would send it again.
                // Only the erasure matters here.
                let changes = store.begin_changes(&arrivals, &[], at(10)).await.unwrap();
                let _admission = translated(changes, &translate).await;
            });
        }

        erase(&store, user, 5).await;

        notifications.join_all().await;
    }

    let dump = database.dump().await;
    assert!(!dump.contains("ada: "), "{dump}");
}

async fn concurrent_conversation_changes_do_not_deadlock(engine: Engine) {
    const USERS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
    const ROUNDS: u32 = 40;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut tasks = tokio::task::JoinSet::new();
    for name in USERS {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        open(&store, user, name, 1).await;
        let store = store.clone();
        tasks.spawn(async move {
            let id = name.parse().unwrap();
            for round in 0..ROUNDS {
                let survey = survey(&format!("survey-{name}-{round}"), 2, None);
                report_dialog(&store, name, &survey).await;
                let closed = store.close_conversation(&id, at(3), None).await;
                closed.unwrap();
                store.reopen_conversation(user, &id).await.unwrap();
            }
        });
    }
    for offset in 0..4 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..ROUNDS {
                let mut names = USERS;
                names.rotate_left(offset);
                let number = round * 4 + u32::try_from(offset).unwrap();
                let states = names.map(|name| {
                    let state = if number % 3 == 0 { "open" } else { "closed" };
                    arrival(name, None, &format!("state {number} {state}"))
                });
                admit(&store, &states, &[]).await;
            }
        });
    }

    tasks.join_all().await;

    for name in USERS {
        let user_state = store.user_state(&key(name)).await.unwrap();
        let in_user_row = user_state.and_then(|user_state| user_state.open);
        let latest = store.latest_conversation(&key(name)).await.unwrap();
        let open = latest.filter(|latest| latest.state == State::Open);
        assert_eq!(in_user_row.map(|it| it.id), open.map(|it| it.id), "{name}");
    }
}

async fn unmatched_changes_of_a_conversation_are_listed_and_dropped(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let account = "12345678".parse().unwrap();
    let other = "87654321".parse().unwrap();
    let subject = "c9".parse().unwrap();
    let of_consumer = |subject: &str, body: &str| Arrival {
        consumer_id: Some("consumer-9".to_owned()),
        signed: Some("sha256 base64"),
        ..arrival(subject, None, body)
    };
    let arrivals = [
        of_consumer("c9", "state 1 open"),
        arrival("c9", None, "text"),
        of_consumer("c8", "state 1 open"),
        of_consumer("c8", "state 2 closed"),
    ];
    admit(&store, &arrivals, &[]).await;

    let unmatched = store
        .unmatched_changes_of(&account, &subject)
        .await
        .unwrap();
    let open = store
        .unmatched_open_conversations(&account, "consumer-9")
        .await;

    let found: Vec<_> = unmatched
        .iter()
        .map(|it| (&*it.body, it.signed.as_deref()))
        .collect();
    assert_eq!(
        found,
        [("state 1 open", Some("sha256 base64")), ("text", None)]
    );
    assert!(
        unmatched
            .iter()
            .all(|it| it.kind == "message" && it.received_at == at(10))
    );
    assert_eq!(open.unwrap(), std::slice::from_ref(&subject));
    assert_eq!(
        store.unmatched_changes_of(&other, &subject).await.unwrap(),
        []
    );
    assert_eq!(
        store
            .remove_unmatched_changes_of(&other, &subject)
            .await
            .unwrap(),
        0
    );
    assert_eq!(
        store
            .remove_unmatched_changes_of(&account, &subject)
            .await
            .unwrap(),
        2
    );
    assert_eq!(
        store
            .unmatched_changes_of(&account, &subject)
            .await
            .unwrap(),
        []
    );
}

async fn a_second_connection_reads_the_database_beside_its_owner(engine: Engine) {
    let database = Database::create(engine).await;
    let absent = Store::connect_read_only(&database.location).await;
    let store = database.store().await;
    admit(&store, &[arrival("c9", None, "text")], &[]).await;

    let beside = Store::connect_read_only(&database.location).await.unwrap();

    let (account, subject) = ("12345678".parse().unwrap(), "c9".parse().unwrap());
    assert_eq!(
        beside
            .unmatched_changes_of(&account, &subject)
            .await
            .unwrap()
            .len(),
        1
    );
    let survey = beside.inspect().await.unwrap();
    assert!(!survey.is_new && survey.pending == 0);
    assert_eq!(survey.is_in_use, engine == Engine::Sqlite);
    let dropped = beside.remove_unmatched_changes_of(&account, &subject).await;
    match engine {
        Engine::Postgres => assert_eq!(dropped.unwrap(), 1),
        Engine::Sqlite => {
            // Connecting creates no database, and nothing is written.
            assert!(absent.is_err() && dropped.is_err());
            assert_eq!(
                store
                    .unmatched_changes_of(&account, &subject)
                    .await
                    .unwrap()
                    .len(),
                1
            );
        }
    }
    beside.close().await;
    // The owner still works.
    admit(&store, &[arrival("c9", None, "another")], &[]).await;
}
