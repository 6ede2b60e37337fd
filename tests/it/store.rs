//! The store's contract: every function, on both engines.

mod audit;
mod changes;
mod checking;
mod connections;
mod deliveries;
mod erasures;
mod idempotency;
mod log;
mod newest;
mod offers;
mod open_conversation;
mod openings;
mod rejections;
mod requests;
mod retention;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use futures_util::future::{join, join_all};
use liveperson_bridge::crypto::Sealed;
use liveperson_bridge::store::{
    Erasure, Error, HostedFile, Lease, Location, OpenConversation, Opened, Store, StoredToken,
    Typing, UserRef,
};
use liveperson_bridge::types::audit::{Action, Actor, Entry, EntryId};
use liveperson_bridge::types::conversation::{
    CloseReason, CurrentDialog, Dialog, DialogKind, Features, OpenedBy, State,
};
use liveperson_bridge::types::file::FileId;
use liveperson_bridge::types::ids::{ChannelId, UserKey};
use liveperson_bridge::types::profile::Profile;
use serde_json::json;
use uuid::Uuid;

use crate::support::changes::store_reported_dialog;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(
    a_user_is_created_once_and_found_again,
    concurrent_lookups_each_return_their_own_user,
    a_lookup_sees_all_earlier_writes,
    users_are_separate_by_account_and_namespace,
    a_stored_token_replaces_the_previous_one,
    tokens_sealed_by_other_keys_are_found_and_sealed_again,
    a_stored_profile_replaces_the_previous_one,
    a_file_is_found_only_by_its_user,
    a_repeated_file_keeps_its_id,
    deleting_a_user_deletes_conversations_dialogs_and_files,
    due_typing_is_taken_by_one_caller,
    a_stored_conversation_is_the_users_open_one,
    a_user_has_at_most_one_open_conversation,
    a_conversation_can_open_after_the_previous_one_closed,
    closing_a_conversation_twice_keeps_the_first_close,
    an_opened_conversation_can_replace_the_open_one,
    a_conversation_closed_by_mistake_can_be_reopened,
    the_current_dialog_is_an_open_survey_or_the_main_dialog,
    a_closed_dialog_stays_closed,
    a_dialog_of_an_unknown_conversation_is_not_stored,
    a_lane_has_one_holder_at_a_time,
    an_expired_lease_is_taken_over_and_cannot_be_released,
    forty_concurrent_lane_claims_have_one_winner,
    stored_data_survives_a_reconnect,
    several_replicas_can_migrate_at_once,
    a_shared_database_reports_server_time,
);

async fn a_shared_database_reports_server_time(engine: Engine) {
    let store = Database::create(engine).await.store().await;
    let ticks = std::sync::atomic::AtomicI64::new(0);

    let reading = store.server_time(|| ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed));

    let reading = reading.await.unwrap();
    assert_eq!(reading.is_some(), engine == Engine::Postgres);
    if let Some(reading) = reading {
        assert_eq!(reading.answered_us - reading.requested_us, 1);
        let shown = DateTime::from_timestamp_micros(reading.server_us).unwrap();
        // The database runs on this machine.
        let off = Utc::now() - shown;
        assert!(off.abs() < chrono::TimeDelta::minutes(1), "{off}");
    }
}

/// Waits until PostgreSQL has counted at least `scans` index scans of a table. Returns the number
/// of entries of the table and its indexes that were read.
async fn entries_read(database: &Database, store: Store, table: &str, scans: i64) -> i64 {
    // A connection reports its statistics when it ends, at the latest.
    store.close().await;
    let mut connection = database.connection().await;
    eventually("the scans are counted", async || {
        let (scanned, read): (i64, i64) = sqlx::query_as(
            "SELECT SUM(i.idx_scan)::BIGINT, (SUM(i.idx_tup_read) + MIN(t.seq_tup_read))::BIGINT
             FROM pg_stat_user_indexes i JOIN pg_stat_user_tables t USING (relid) WHERE t.relname = $1",
        )
        .bind(table)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        (scanned >= scans).then_some(read)
    })
    .await
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn key(user_id: &str) -> UserKey {
    UserKey {
        account_id: "12345678".parse().unwrap(),
        namespace: "sms".parse().unwrap(),
        user_id: user_id.parse().unwrap(),
    }
}

fn lease(id: &str, until: i64) -> Lease {
    Lease {
        id: id.to_owned(),
        until: at(until),
    }
}

/// Returns an audit log entry for an action at this second with a key of `sms`.
fn recorded(number: u128, second: i64, action: Action) -> Entry {
    Entry {
        id: EntryId::new(Uuid::from_u128(number)),
        at: at(second),
        actor: Actor::ApiKey(0x00ab_cdef),
        channel_id: Some("sms".parse().unwrap()),
        action,
        request_id: Some(format!("req_{number}")),
    }
}

fn erasure() -> Entry {
    let by_own_token = false;
    recorded(1, 1, Action::EraseUser { by_own_token })
}

/// Erases a user without pending closes. Returns true if the user still existed.
async fn erase(store: &Store, user: UserRef, second: i64) -> bool {
    loop {
        let Some(erasing) = store.erasure_data(user).await.unwrap() else {
            return false;
        };
        let entry = erasure();
        let erased = store.delete_user(&erasing, &[], at(second), &entry);
        match erased.await.unwrap() {
            Erasure::Done => return true,
            Erasure::AlreadyErased => return false,
            // Some tests change the user at the same time.
            Erasure::Changed => {}
        }
    }
}

fn token(sealed: &[u8]) -> StoredToken {
    StoredToken {
        sealed: Sealed(sealed.to_vec()),
        key_id: "key-1".to_owned(),
        consumer_id: "consumer-1".to_owned(),
    }
}

fn conversation(id: &str) -> OpenConversation {
    OpenConversation {
        id: id.parse().unwrap(),
        features: Features::try_from(vec!["AUTO_MESSAGES".to_owned()]).unwrap(),
        dialog: CurrentDialog::Main,
    }
}

fn dialog(id: &str, kind: DialogKind, opened: i64, closed: Option<i64>) -> Dialog {
    Dialog {
        id: id.parse().unwrap(),
        kind,
        opened_at: at(opened),
        closed_at: closed.map(at),
    }
}

fn survey(id: &str, opened: i64, closed: Option<i64>) -> Dialog {
    dialog(id, DialogKind::PostSurvey, opened, closed)
}

/// Reports a dialog of a conversation. Returns true if the conversation is known.
async fn report_dialog(store: &Store, conversation: &str, dialog: &Dialog) -> bool {
    store_reported_dialog(store, "12345678", conversation, dialog).await
}

/// Returns the dialog in which user `a` writes.
async fn current(store: &Store) -> CurrentDialog {
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    user_state.open.unwrap().dialog
}

fn file(relative_path: &str) -> HostedFile {
    HostedFile {
        relative_path: relative_path.to_owned(),
        file_type: "PDF".to_owned().into(),
    }
}

async fn open(store: &Store, user: UserRef, id: &str, second: i64) -> bool {
    replace(store, user, None, id, second).await
}

async fn replace(
    store: &Store,
    user: UserRef,
    replaced: Option<&str>,
    id: &str,
    second: i64,
) -> bool {
    let replaced = replaced.map(|id| id.parse().unwrap());
    let channel: ChannelId = "sms".parse().unwrap();
    let profile: Profile = serde_json::from_value(json!({"first_name": "Ada"})).unwrap();
    store
        .insert_opened(
            &Opened {
                user,
                channel_id: &channel,
                conversation: &conversation(id),
                opened_by: OpenedBy::User,
                replaced: replaced.as_ref(),
                profile: Some(&profile),
                at: at(second),
            },
            Some(&lease("l", second + 15)),
        )
        .await
        .unwrap()
}

async fn a_user_is_created_once_and_found_again(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    assert!(store.user_state(&key("Zoë 👋")).await.unwrap().is_none());
    assert!(store.user(&key("Zoë 👋")).await.unwrap().is_none());
    let first = store.ensure_user(&key("Zoë 👋"), at(0)).await.unwrap();
    let second = store.ensure_user(&key("Zoë 👋"), at(1)).await.unwrap();

    assert_eq!(first, second);
    let user_state = store.user_state(&key("Zoë 👋")).await.unwrap().unwrap();
    assert_eq!(user_state.user, first);
    assert!(user_state.token.is_none() && user_state.open.is_none());
    let user = store.user(&key("Zoë 👋")).await.unwrap().unwrap();
    assert_eq!(user.profile, Profile::default());
    assert!(user.consumer_id.is_none() && user.conversation.is_none());
}

async fn concurrent_lookups_each_return_their_own_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut users = Vec::new();
    for number in 0..20 {
        let user = store.ensure_user(&key(&number.to_string()), at(0)).await;
        users.push(user.unwrap());
    }

    // More lookups than fit into one statement, some of unknown users and some repeated.
    let numbers = (0..700).map(|number| number % 30);
    let found = join_all(numbers.clone().map(|number: usize| {
        let store = &store;
        async move { store.user_state(&key(&number.to_string())).await.unwrap() }
    }));

    for (number, user_state) in numbers.zip(found.await) {
        let found = user_state.map(|user_state| user_state.user);
        assert_eq!(found, users.get(number).copied(), "{number}");
    }
}

async fn a_lookup_sees_all_earlier_writes(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    look_up_and_write_concurrently(&store).await;
}

/// Looks users up while users are written. Each lookup has to see the writes before it.
async fn look_up_and_write_concurrently(store: &Store) {
    let read = async |name: String| {
        // Keeps other lookups in flight all the time.
        for _ in 0..20 {
            store.user_state(&key(&name)).await.unwrap();
        }
    };
    let write = async |name: String| {
        for number in 0..20 {
            let name = format!("{name}-{number}");
            let user = store.ensure_user(&key(&name), at(0)).await.unwrap();
            let user_state = store.user_state(&key(&name)).await.unwrap().unwrap();
            assert_eq!(user_state.user, user);
        }
    };

    let readers = join_all((0..20).map(|number| read(format!("reader-{number}"))));
    let writers = join_all((0..5).map(|number| write(format!("writer-{number}"))));
    join(readers, writers).await;
}

async fn users_are_separate_by_account_and_namespace(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let mut other_account = key("a");
    other_account.account_id = "87654321".parse().unwrap();
    let mut other_namespace = key("a");
    other_namespace.namespace = "app".parse().unwrap();

    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    assert_ne!(
        store.ensure_user(&other_account, at(0)).await.unwrap(),
        user
    );
    assert_ne!(
        store.ensure_user(&other_namespace, at(0)).await.unwrap(),
        user
    );

    open(&store, user, "c1", 1).await;
    for other in [other_account, other_namespace, key("A")] {
        let latest = store.latest_conversation(&other).await.unwrap();
        assert!(latest.is_none(), "{other:?}");
    }
}

async fn a_stored_token_replaces_the_previous_one(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();

    store
        .set_token(user, &token(b"\x00\xff first"))
        .await
        .unwrap();
    store
        .set_token(user, &token(b"\x00\xff second"))
        .await
        .unwrap();

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.token, Some(token(b"\x00\xff second")));
    let user = store.user(&key("a")).await.unwrap().unwrap();
    assert_eq!(user.consumer_id.as_deref(), Some("consumer-1"));
}

async fn tokens_sealed_by_other_keys_are_found_and_sealed_again(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for name in ["a", "b", "c", "without a token"] {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        if name.len() == 1 {
            store
                .set_token(user, &token(name.as_bytes()))
                .await
                .unwrap();
        }
    }

    let first = store.tokens_not_sealed_by("key-2", None, 2).await.unwrap();
    let after = Some(first[1].0);
    let second = store.tokens_not_sealed_by("key-2", after, 2).await.unwrap();
    let found: Vec<_> = first.iter().chain(&second).collect();
    let names: Vec<_> = found
        .iter()
        .map(|(_, key, _)| key.user_id.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(found[0].2, token(b"a"));

    let new_token = StoredToken {
        key_id: "key-2".to_owned(),
        ..token(b"anew")
    };
    let user = found[0].0;
    let read = &found[0].2.sealed;
    assert!(
        store
            .reseal_token(user, read, &new_token, None)
            .await
            .unwrap()
    );
    // The stored token is no longer the one that was read.
    assert!(
        !store
            .reseal_token(user, read, &new_token, None)
            .await
            .unwrap()
    );
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.token, Some(new_token));
    let remaining = store.tokens_not_sealed_by("key-2", None, 9).await.unwrap();
    assert_eq!(remaining.len(), 2);
}

async fn a_stored_profile_replaces_the_previous_one(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let profile = |value| serde_json::from_value::<Profile>(value).unwrap();

    store
        .set_profile(user, &profile(json!({"first_name": "Ada"})))
        .await
        .unwrap();
    let second = profile(json!({"contacts": [{"phone": "+1"}], "birth_date": "1985-12-10"}));
    store.set_profile(user, &second).await.unwrap();

    assert_eq!(store.profile_and_opening(user).await.unwrap().0, second);
}

async fn a_file_is_found_only_by_its_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    store.ensure_user(&key("b"), at(0)).await.unwrap();
    let id = FileId::new(Uuid::from_u128(1));
    let stored = file("/v1/ada.PDF");

    let named = store.ensure_file(user, id, &stored, at(1)).await.unwrap();

    assert_eq!(named, id);
    let found = store.file(&key("a"), id).await.unwrap();
    assert_eq!(found.as_ref(), Some(&stored));
    let mut other_account = key("a");
    other_account.account_id = "87654321".parse().unwrap();
    let mut other_namespace = key("a");
    other_namespace.namespace = "app".parse().unwrap();
    let in_namespace = async |key: &UserKey, id| {
        let found = store.file_in_namespace(&key.account_id, &key.namespace, id);
        found.await.unwrap()
    };
    for other in [&other_account, &other_namespace] {
        assert_eq!(in_namespace(other, id).await, None, "{other:?}");
    }
    for other in [key("b"), key("nobody"), other_account, other_namespace] {
        assert_eq!(store.file(&other, id).await.unwrap(), None, "{other:?}");
    }
    let unknown = FileId::new(Uuid::from_u128(2));
    assert_eq!(store.file(&key("a"), unknown).await.unwrap(), None);
    assert_eq!(in_namespace(&key("a"), unknown).await, None);
    // Without a user, the namespace is enough.
    let ada = key("a").user_id;
    assert_eq!(in_namespace(&key("b"), id).await, Some((ada, stored)));
}

async fn a_repeated_file_keeps_its_id(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    let [first, second, third] = [1, 2, 3].map(|number| FileId::new(Uuid::from_u128(number)));
    let shared = file("/v1/shared.PDF");

    let named = store
        .ensure_file(user, first, &shared, at(1))
        .await
        .unwrap();
    let again = store
        .ensure_file(user, second, &shared, at(2))
        .await
        .unwrap();
    let of_other = store
        .ensure_file(other, third, &shared, at(3))
        .await
        .unwrap();

    assert_eq!((named, again, of_other), (first, first, third));
    assert_eq!(store.file(&key("a"), second).await.unwrap(), None);
}

async fn deleting_a_user_deletes_conversations_dialogs_and_files(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("marker"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    open(&store, user, "marker-1", 1).await;
    open(&store, other, "other-1", 1).await;
    let id = FileId::new(Uuid::from_u128(1));
    let stored = file("/v1/marker.PNG");
    store.ensure_file(user, id, &stored, at(2)).await.unwrap();

    erase(&store, user, 9).await;
    erase(&store, user, 9).await;

    let dump = database.dump().await;
    assert!(!dump.contains("marker"), "{dump}");
    assert!(dump.contains("other-1"), "{dump}");
}

async fn due_typing_is_taken_by_one_caller(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let typing = |until| Typing {
        sent_at: at(0),
        until: at(until),
    };
    let mut users = Vec::new();
    for (name, until) in [("a", 10), ("b", 20), ("c", 30)] {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        store.set_typing(user, typing(until)).await.unwrap();
        users.push(user);
    }
    let still = store.ensure_user(&key("still"), at(0)).await.unwrap();
    store.end_typing(still, at(1)).await.unwrap();
    store.end_typing(users[2], at(15)).await.unwrap();

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { store.claim_due_typing(at(20), at(40), 2).await.unwrap() });
    }
    let taken = tasks.join_all().await.concat();

    let mut names: Vec<_> = taken.iter().map(|due| due.key.user_id.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c"]);
    let typing_of = async |name| store.user_state(&key(name)).await.unwrap().unwrap().typing;
    // The typing is being ended, so a new start has to be sent again.
    let ending = Typing {
        sent_at: DateTime::UNIX_EPOCH,
        ..typing(40)
    };
    assert_eq!(typing_of("a").await, Some(ending));
    // Typing that was set again after the claim is not cleared.
    store.clear_typing(users[0], Some(at(39))).await.unwrap();
    store.clear_typing(users[1], Some(at(40))).await.unwrap();
    store.clear_typing(users[2], None).await.unwrap();
    assert_eq!(typing_of("a").await, Some(ending));
    assert_eq!(typing_of("b").await, None);
    assert_eq!(typing_of("c").await, None);
    assert_eq!(typing_of("still").await, None);
}

async fn a_stored_conversation_is_the_users_open_one(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    assert!(
        store
            .claim_lane(user, &lease("l", 16), at(1))
            .await
            .unwrap()
    );

    assert!(open(&store, user, "c1", 1).await);

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.open, Some(conversation("c1")));
    let latest = store.latest_conversation(&key("a")).await.unwrap().unwrap();
    assert_eq!(latest.id.as_str(), "c1");
    assert_eq!(latest.opened_at, at(1));
    assert_eq!(latest.state, State::Open);
    assert_eq!(latest.features.names(), ["AUTO_MESSAGES"]);
    let (profile, _) = store.profile_and_opening(user).await.unwrap();
    assert_eq!(profile.first_name.as_deref(), Some("Ada"));
    let shown = store.user(&key("a")).await.unwrap().unwrap();
    assert_eq!(shown.profile, profile);
    assert_eq!(shown.conversation, Some(latest));
    // Storing the conversation released the lane.
    assert!(
        store
            .claim_lane(user, &lease("m", 16), at(1))
            .await
            .unwrap()
    );
}

async fn a_user_has_at_most_one_open_conversation(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();

    assert!(open(&store, user, "c1", 1).await);
    assert!(!open(&store, user, "c2", 2).await);
    assert!(!open(&store, user, "c1", 3).await);

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.open, Some(conversation("c1")));
}

async fn a_conversation_can_open_after_the_previous_one_closed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;

    let reason = CloseReason::consumer();
    let closed = store
        .close_conversation(&"c1".parse().unwrap(), at(2), Some(&reason))
        .await
        .unwrap();

    assert!(closed);
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.open, None);
    let latest = store.latest_conversation(&key("a")).await.unwrap().unwrap();
    assert_eq!(
        latest.state,
        State::Closed {
            at: at(2),
            reason: Some(reason)
        }
    );
    // The replica that opens `c2` has a clock that is behind.
    assert!(open(&store, user, "c2", 0).await);
    let latest = store.latest_conversation(&key("a")).await.unwrap().unwrap();
    assert_eq!(latest.id.as_str(), "c2");
}

async fn closing_a_conversation_twice_keeps_the_first_close(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let id = "c1".parse().unwrap();

    assert!(store.close_conversation(&id, at(2), None).await.unwrap());
    let reason = CloseReason::consumer();
    assert!(
        !store
            .close_conversation(&id, at(3), Some(&reason))
            .await
            .unwrap()
    );

    let latest = store.latest_conversation(&key("a")).await.unwrap().unwrap();
    assert_eq!(
        latest.state,
        State::Closed {
            at: at(2),
            reason: None
        }
    );
}

async fn an_opened_conversation_can_replace_the_open_one(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;

    assert!(replace(&store, user, Some("c1"), "c2", 2).await);

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.open, Some(conversation("c2")));
    let first = "c1".parse().unwrap();
    let closed = store.close_conversation(&first, at(3), None).await.unwrap();
    assert!(!closed, "the replacement closed it");
    assert!(!store.close_dialog("c1", at(3)).await.unwrap());
    // A conversation that was already replaced cannot be replaced again.
    assert!(!replace(&store, user, Some("c1"), "c3", 3).await);
    assert_eq!(current(&store).await, CurrentDialog::Main);
}

async fn a_conversation_closed_by_mistake_can_be_reopened(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let id = "c1".parse().unwrap();
    let reason = CloseReason::consumer();
    let reopen = async |user| store.reopen_conversation(user, &id).await.unwrap();

    assert!(!reopen(user).await, "it is open");
    let closed = store.close_conversation(&id, at(2), Some(&reason));
    closed.await.unwrap();
    assert!(!reopen(other).await, "it is another user's");
    assert!(reopen(user).await);

    let latest = store.latest_conversation(&key("a")).await.unwrap().unwrap();
    assert_eq!(latest.state, State::Open);
    // Its main dialog is still closed.
    assert_eq!(current(&store).await, CurrentDialog::Ended);
    store.reopen_main_dialog(other, &id).await.unwrap();
    assert_eq!(current(&store).await, CurrentDialog::Ended);
    store.reopen_main_dialog(user, &id).await.unwrap();
    assert_eq!(current(&store).await, CurrentDialog::Main);
    store.close_conversation(&id, at(3), None).await.unwrap();
    open(&store, user, "c2", 4).await;
    assert!(!reopen(user).await, "another is open");
    let unknown = "c9".parse().unwrap();
    assert!(!store.reopen_conversation(other, &unknown).await.unwrap());
}

async fn the_current_dialog_is_an_open_survey_or_the_main_dialog(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let id = "c1".parse().unwrap();

    assert_eq!(current(&store).await, CurrentDialog::Main);
    assert!(store.close_dialog("c1", at(2)).await.unwrap());
    assert_eq!(current(&store).await, CurrentDialog::Ended);
    let begun = survey("s1", 3, None);
    assert!(report_dialog(&store, "c1", &begun).await);
    assert_eq!(
        current(&store).await,
        CurrentDialog::Survey("s1".parse().unwrap())
    );
    // Two surveys are open, because the end of the first was not reported.
    assert!(report_dialog(&store, "c1", &survey("s0", 4, None)).await);
    assert_eq!(
        current(&store).await,
        CurrentDialog::Survey("s0".parse().unwrap())
    );
    report_dialog(&store, "c1", &survey("s0", 4, Some(5))).await;
    report_dialog(&store, "c1", &survey("s1", 3, Some(5))).await;
    assert_eq!(current(&store).await, CurrentDialog::Ended);

    report_dialog(&store, "c1", &survey("s2", 6, None)).await;
    assert_eq!(
        current(&store).await,
        CurrentDialog::Survey("s2".parse().unwrap())
    );
    // Closing the conversation closes its dialogs.
    store.close_conversation(&id, at(7), None).await.unwrap();
    assert!(!store.close_dialog("s2", at(8)).await.unwrap());
}

async fn a_closed_dialog_stays_closed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    open(&store, other, "c2", 1).await;

    let ended = dialog("c1", DialogKind::Main, 1, Some(2));
    assert!(report_dialog(&store, "c1", &ended).await);
    // A report of the earlier state comes late.
    let before = dialog("c1", DialogKind::Main, 1, None);
    assert!(report_dialog(&store, "c1", &before).await);
    assert!(!store.close_dialog("c1", at(3)).await.unwrap());

    assert_eq!(current(&store).await, CurrentDialog::Ended);
    // A dialog does not move to another conversation, and is not closed by a report about another
    // one.
    let foreign = dialog("c2", DialogKind::PostSurvey, 2, Some(3));
    report_dialog(&store, "c1", &foreign).await;
    assert!(store.close_dialog("c2", at(4)).await.unwrap());
}

async fn a_dialog_of_an_unknown_conversation_is_not_stored(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    let is_known = report_dialog(&store, "c1", &survey("s1", 1, None)).await;

    assert!(!is_known);
    assert!(!store.close_dialog("s1", at(2)).await.unwrap());
}

async fn a_lane_has_one_holder_at_a_time(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();

    assert!(
        store
            .claim_lane(user, &lease("l", 15), at(0))
            .await
            .unwrap()
    );
    assert!(
        !store
            .claim_lane(user, &lease("m", 29), at(14))
            .await
            .unwrap()
    );
    assert!(
        store
            .claim_lane(other, &lease("n", 15), at(0))
            .await
            .unwrap()
    );

    store.release_lane(user, &lease("l", 15)).await.unwrap();
    assert!(
        store
            .claim_lane(user, &lease("m", 29), at(14))
            .await
            .unwrap()
    );
}

async fn an_expired_lease_is_taken_over_and_cannot_be_released(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let lost = lease("l", 15);
    assert!(store.claim_lane(user, &lost, at(0)).await.unwrap());

    assert!(
        store
            .claim_lane(user, &lease("m", 30), at(15))
            .await
            .unwrap()
    );
    store.release_lane(user, &lost).await.unwrap();

    assert!(
        !store
            .claim_lane(user, &lease("n", 31), at(16))
            .await
            .unwrap()
    );
}

async fn forty_concurrent_lane_claims_have_one_winner(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let claims = (0..40).map(|number| {
        let store = store.clone();
        async move {
            let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
            let lease = lease(&format!("l{number}"), 15);
            store.claim_lane(user, &lease, at(0)).await.unwrap()
        }
    });

    let mut tasks = tokio::task::JoinSet::new();
    claims.for_each(|claim| {
        tasks.spawn(claim);
    });
    let outcomes = tasks.join_all().await;

    assert_eq!(outcomes.iter().filter(|won| **won).count(), 1);
}

async fn stored_data_survives_a_reconnect(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    store.set_token(user, &token(b"sealed")).await.unwrap();
    open(&store, user, "c1", 1).await;
    store.close().await;

    let store = database.store().await;

    store.check(at(2)).await.unwrap();
    let survey = store.inspect().await.unwrap();
    assert_eq!(
        (survey.pending, survey.newer, survey.writable),
        (0, 0, true)
    );
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.token, Some(token(b"sealed")));
    assert_eq!(user_state.open, Some(conversation("c1")));
}

async fn several_replicas_can_migrate_at_once(engine: Engine) {
    let database = Database::create(engine).await;
    let mut tasks = tokio::task::JoinSet::new();
    match engine {
        Engine::Postgres => {
            for _ in 0..4 {
                let store = Store::connect(&database.location).await.unwrap();
                tasks.spawn(async move { store.migrate().await });
            }
        }
        // One process owns the file, so its replicas are tasks.
        Engine::Sqlite => {
            let store = Store::connect(&database.location).await.unwrap();
            for _ in 0..4 {
                let store = store.clone();
                tasks.spawn(async move { store.migrate().await });
            }
        }
    }

    for outcome in tasks.join_all().await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_second_owner_of_the_embedded_database_is_refused() {
    let database = Database::create(Engine::Sqlite).await;
    let first = database.store().await;

    let refusal = Store::connect(&database.location).await.unwrap_err();

    assert!(matches!(refusal, Error::InUse { .. }), "{refusal:?}");
    let shown = refusal.to_string();
    assert!(shown.contains("another process uses"), "{shown}");
    first.close().await;
    database.store().await;
}

#[tokio::test]
async fn an_unreachable_database_is_reported_as_unavailable() {
    let nowhere = Location::Postgres {
        url: "postgres://nobody:secret@127.0.0.1:1/none"
            .to_owned()
            .into(),
        schema: None,
        max_connections: 1,
    };

    let refusal = Store::connect(&nowhere).await.unwrap_err();

    assert!(matches!(refusal, Error::Unavailable(_)), "{refusal:?}");
    assert!(!format!("{refusal:?}").contains("secret"));
}

/// Every function of the store has a test in this contract.
#[test]
fn every_store_function_has_a_contract_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut contract = String::new();
    for file in files_of(root.join("tests/it/store")) {
        contract += &std::fs::read_to_string(file).unwrap();
    }
    let mut functions = BTreeSet::new();
    for file in files_of(root.join("src/store")) {
        functions.extend(functions_of_store(&std::fs::read_to_string(file).unwrap()));
    }

    let is_called = |function: &String| {
        let calls = [format!(".{function}("), format!("::{function}(")];
        calls.iter().any(|call| contract.contains(call))
    };
    let uncalled: Vec<_> = functions.iter().filter(|name| !is_called(name)).collect();
    assert!(
        uncalled.is_empty(),
        "nothing here calls Store::{uncalled:?}"
    );
    assert!(functions.len() >= 100, "only {functions:?} were found");
}

/// Returns the source files of a module: the file beside the folder, and all files in the folder.
fn files_of(module: PathBuf) -> Vec<PathBuf> {
    let mut files = vec![module.with_extension("rs")];
    let mut folders = vec![module];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files
}

/// Returns the public functions in the `impl Store` blocks of a source file.
fn functions_of_store(source: &str) -> Vec<String> {
    let mut functions = Vec::new();
    let mut is_inside = false;
    for line in source.lines() {
        match line {
            "impl Store {" => is_inside = true,
            "}" => is_inside = false,
            _ => {}
        }
        let public = line.strip_prefix("    pub ").filter(|_| is_inside);
        let name = public.and_then(|rest| {
            let rest = rest.strip_prefix("async ").unwrap_or(rest);
            rest.strip_prefix("fn ")?.split(['(', '<']).next()
        });
        functions.extend(name.map(str::to_owned));
    }
    functions
}

#[test]
fn functions_are_found_only_in_store_impl_blocks() {
    let source = "impl Store {\n    pub async fn a<T>(&self) {}\n    pub fn b(&self) {}\n    async fn c() {}\n}\n\
                  impl Other {\n    pub fn d() {}\n}\n";

    assert_eq!(functions_of_store(source), ["a", "b"]);
}
