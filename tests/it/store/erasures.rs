//! The erasure of users, and pending closes.

use chrono::{DateTime, Utc};
use liveperson_bridge::crypto::Sealed;
use liveperson_bridge::store::{
    Erasure, NewClose, PendingClose, PendingOpening, SealedClose, Store, UserRef,
};
use liveperson_bridge::types::audit::Action;
use liveperson_bridge::types::conversation::Features;
use liveperson_bridge::types::ids::{AccountId, ConversationId};
use liveperson_bridge::types::status::CloseBacklog;

use super::{at, conversation, erasure, key, open, recorded, token};
use crate::support::database::{Database, Engine};

on_both_engines!(
    an_erasure_stores_pending_closes_and_deletes_the_user,
    an_erasure_is_refused_when_the_user_has_changed,
    a_pending_close_is_settled_only_by_its_last_claimant,
    pending_closes_are_found_by_owner_hash,
    pending_closes_are_due_after_an_outage,
    old_pending_closes_are_given_up,
    a_pending_close_takes_only_a_conversation_without_a_user,
    no_conversation_is_stored_for_an_erased_user,
    pending_closes_are_sealed_again_with_a_new_key,
);

fn account() -> AccountId {
    key("ada").account_id
}

fn id(text: &str) -> ConversationId {
    text.parse().unwrap()
}

fn sealed(owner: &str) -> SealedClose {
    SealedClose {
        owner: owner.to_owned(),
        secret: Sealed(vec![1, 2, 3]),
        key_id: "key-1".to_owned(),
    }
}

fn close(owner: &str, conversation_id: Option<&str>, due: i64) -> NewClose {
    NewClose {
        account_id: account(),
        conversation_id: conversation_id.map(id),
        sealed: sealed(owner),
        due_at: at(due),
    }
}

/// Stores a pending close of a conversation that belongs to no user.
async fn add_close(store: &Store, owner: &str, conversation_id: &str, second: i64) {
    let close = close(owner, Some(conversation_id), second);
    store.add_close(&close, at(second)).await.unwrap();
}

async fn closes_of(store: &Store, owner: &str) -> Vec<PendingClose> {
    store.closes_of(&[owner.to_owned()]).await.unwrap()
}

async fn due(store: &Store, second: i64) -> Vec<PendingClose> {
    let claimed = store.claim_due_closes(at(second), at(second + 60), at(0), 9);
    claimed.await.unwrap()
}

async fn remove(store: &Store, user: UserRef, closes: &[NewClose]) -> Erasure {
    let erasing = store.erasure_data(user).await.unwrap().unwrap();
    let entry = erasure();
    let erased = store.delete_user(&erasing, closes, at(5), &entry);
    erased.await.unwrap()
}

fn opening() -> PendingOpening {
    PendingOpening {
        channel_id: "sms".parse().unwrap(),
        features: Features::default(),
        profile: None,
        since: at(2),
        attempted_at: at(2),
    }
}

async fn an_erasure_stores_pending_closes_and_deletes_the_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    store.set_token(user, &token(b"t")).await.unwrap();
    store.begin_opening(user, &opening(), at(30)).await.unwrap();

    let erasing = store.erasure_data(user).await.unwrap().unwrap();
    assert_eq!(erasing.open, Some(conversation("c1")));
    assert_eq!(erasing.token, Some(token(b"t")));
    assert_eq!(erasing.opening, Some(opening()));
    assert_eq!(erasing.opening_until, Some(at(30)));
    let closes = [close("hash", Some("c1"), 9), close("hash", None, 30)];
    let entry = erasure();
    let erased = store.delete_user(&erasing, &closes, at(5), &entry);
    assert_eq!(erased.await.unwrap(), Erasure::Done);

    assert!(store.user_state(&key("ada")).await.unwrap().is_none());
    assert!(store.erasure_data(user).await.unwrap().is_none());
    let stored = closes_of(&store, "hash").await;
    let stored: Vec<_> = stored
        .into_iter()
        .map(|it| {
            (
                it.attempts,
                it.account_id,
                it.conversation_id,
                it.sealed,
                it.due_at,
            )
        })
        .collect();
    let expected = |conversation_id: Option<&str>, due: i64| {
        let conversation_id = conversation_id.map(id);
        (0, account(), conversation_id, sealed("hash"), at(due))
    };
    assert_eq!(stored, [expected(Some("c1"), 9), expected(None, 30)]);
    assert!(store.is_erased(&id("c1")).await.unwrap());
    assert!(!store.is_erased(&id("c2")).await.unwrap());
    // A second erasure finds no user.
    let entry = erasure();
    let again = store.delete_user(&erasing, &closes, at(6), &entry);
    assert_eq!(again.await.unwrap(), Erasure::AlreadyErased);
    assert_eq!(closes_of(&store, "hash").await.len(), 2);
}

async fn an_erasure_is_refused_when_the_user_has_changed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();

    let before = store.erasure_data(user).await.unwrap().unwrap();
    open(&store, user, "c1", 1).await;
    let erased = store.delete_user(&before, &[], at(5), &erasure()).await;
    assert_eq!(erased.unwrap(), Erasure::Changed);
    let before = store.erasure_data(user).await.unwrap().unwrap();
    store.begin_opening(user, &opening(), at(30)).await.unwrap();
    let erased = store.delete_user(&before, &[], at(5), &erasure()).await;
    assert_eq!(erased.unwrap(), Erasure::Changed);

    assert!(store.user_state(&key("ada")).await.unwrap().is_some());
    assert!(!store.is_erased(&id("c1")).await.unwrap());
    assert_eq!(remove(&store, user, &[]).await, Erasure::Done);
}

async fn a_pending_close_is_settled_only_by_its_last_claimant(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    add_close(&store, "a", "c1", 10).await;
    add_close(&store, "b", "c2", 20).await;

    assert_eq!(due(&store, 9).await, []);
    let mut first = due(&store, 10).await;
    let first = first.pop().unwrap();
    assert_eq!(
        (first.conversation_id.clone(), first.attempts),
        (Some(id("c1")), 1)
    );
    assert_eq!(due(&store, 10).await, []);
    // The lease of the first holder has expired.
    let second = due(&store, 70).await;
    let second = second.iter().find(|it| it.id == first.id).unwrap();
    assert_eq!(second.attempts, 2);
    assert!(!store.finish_close(&first).await.unwrap());
    store.postpone_close(&first, at(0), "why").await.unwrap();
    assert_eq!(due(&store, 71).await, []);

    store.postpone_close(second, at(80), "why").await.unwrap();
    assert_eq!(due(&store, 79).await, []);
    assert_eq!(due(&store, 80).await.len(), 1);
    // An erasure of this user claims the close at once.
    let third = store.claim_close(first.id, at(200)).await.unwrap().unwrap();
    assert_eq!((third.attempts, third.due_at), (4, at(200)));
    assert!(store.finish_close(&third).await.unwrap());
    assert!(!store.finish_close(&third).await.unwrap());
    assert_eq!(store.claim_close(first.id, at(200)).await.unwrap(), None);
    assert_eq!(closes_of(&store, "a").await, []);
    assert_eq!(closes_of(&store, "b").await.len(), 1);
}

async fn pending_closes_are_found_by_owner_hash(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for (owner, conversation_id) in [("a", "c1"), ("b", "c2"), ("c", "c3"), ("a", "c1")] {
        add_close(&store, owner, conversation_id, 1).await;
    }

    let found = store.closes_of(&["a".to_owned(), "c".to_owned()]).await;
    let found: Vec<_> = found.unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|it| it.conversation_id.as_ref().unwrap().as_str())
        .collect();

    assert_eq!(found, ["c1", "c3"]);
    assert_eq!(closes_of(&store, "d").await, []);
    let backlogs = store.close_backlogs().await.unwrap();
    let expected = CloseBacklog {
        account_id: account(),
        waiting: 3,
        oldest: at(1),
    };
    assert_eq!(backlogs, [expected]);
}

async fn pending_closes_are_due_after_an_outage(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for (owner, conversation_id) in [("a", "c1"), ("b", "c2"), ("c", "c3"), ("d", "c4")] {
        add_close(&store, owner, conversation_id, 1).await;
    }
    let claimed = due(&store, 1).await;
    for (close, (why, due_at)) in claimed.iter().zip([
        ("away", 300),
        ("away", 200),
        ("throttled", 300),
        ("away", 100),
    ]) {
        store.postpone_close(close, at(due_at), why).await.unwrap();
    }
    // A close that has not failed yet has no failure reason, so it does not match.
    add_close(&store, "e", "c5", 400).await;
    let hurry = async |account: &AccountId, limit| {
        let hurried = store.make_closes_due(account, &["away", "else"], at(10), limit);
        hurried.await.unwrap()
    };

    assert_eq!(hurry(&"87654321".parse().unwrap(), 9).await, 0);
    assert_eq!(hurry(&account(), 2).await, 2);
    assert_eq!(due(&store, 10).await.len(), 2);
    assert_eq!(hurry(&account(), 9).await, 3);
}

async fn old_pending_closes_are_given_up(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for (second, conversation_id) in [(1, "c1"), (2, "c2"), (3, "c3")] {
        add_close(&store, "a", conversation_id, second).await;
    }
    let give_up =
        async |before: DateTime<Utc>, limit| store.give_up_closes(before, limit).await.unwrap();

    assert_eq!(give_up(at(0), 9).await, []);
    assert_eq!(give_up(at(2), 1).await, [(account(), Some(id("c1")))]);
    assert_eq!(give_up(at(2), 9).await, [(account(), Some(id("c2")))]);
    // A close that is too old is not claimed any more, although it is still stored.
    let young = store
        .claim_due_closes(at(9), at(60), at(3), 9)
        .await
        .unwrap();
    assert_eq!(young, []);
    assert_eq!(due(&store, 9).await.len(), 1);
}

async fn a_pending_close_takes_only_a_conversation_without_a_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let other = store.ensure_user(&key("bob"), at(0)).await.unwrap();
    open(&store, other, "of-bob", 1).await;
    for name in ["ada", "cyd"] {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        let erased = remove(&store, user, &[close(name, None, 10)]).await;
        assert_eq!(erased, Erasure::Done);
    }
    let claimed = due(&store, 10).await;
    let of_ada = claimed.iter().find(|it| it.sealed.owner == "ada").unwrap();
    let of_cyd = claimed.iter().find(|it| it.sealed.owner == "cyd").unwrap();
    let set_conversation = async |close: &PendingClose, text: &str| {
        store
            .set_close_conversation(close, &id(text), at(11))
            .await
            .unwrap()
    };

    assert!(!set_conversation(of_ada, "of-bob").await);
    assert!(!store.is_erased(&id("of-bob")).await.unwrap());
    assert!(set_conversation(of_ada, "c1").await);
    assert!(store.is_erased(&id("c1")).await.unwrap());
    assert_eq!(
        closes_of(&store, "ada").await[0].conversation_id,
        Some(id("c1"))
    );
    // Another pending close already has this conversation.
    assert!(!set_conversation(of_cyd, "c1").await);
    // After another claim, the former holder cannot set the conversation.
    store.claim_close(of_cyd.id, at(99)).await.unwrap().unwrap();
    assert!(!set_conversation(of_cyd, "c2").await);
    assert!(!store.is_erased(&id("c2")).await.unwrap());
    // No pending close is stored for another user's conversation.
    add_close(&store, "ada", "of-bob", 12).await;
    assert!(!store.is_erased(&id("of-bob")).await.unwrap());
    assert_eq!(closes_of(&store, "ada").await.len(), 1);
}

async fn no_conversation_is_stored_for_an_erased_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("ada"), at(0)).await.unwrap();

    assert_eq!(remove(&store, user, &[]).await, Erasure::Done);

    assert!(!open(&store, user, "conversation-1", 6).await);
    assert!(!database.dump().await.contains("conversation-1"));
}

async fn pending_closes_are_sealed_again_with_a_new_key(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    for (owner, conversation_id) in [("a", "c1"), ("b", "c2"), ("c", "c3")] {
        add_close(&store, owner, conversation_id, 1).await;
    }
    let sealed_by_other_keys = async |after| {
        let found = store.closes_not_sealed_by("key-2", after, 2).await;
        found.unwrap()
    };
    let new_close = SealedClose {
        owner: "anew".to_owned(),
        secret: Sealed(vec![4, 5]),
        key_id: "key-2".to_owned(),
    };
    let action = Action::RotateKeys {
        key_id: "key-2".to_owned(),
        sealed_anew: 1,
        unopened: 0,
    };
    let entry = recorded(7, 2, action);

    let first = sealed_by_other_keys(None).await;
    assert_eq!(first.len(), 2);
    assert_eq!(sealed_by_other_keys(Some(first[1].id)).await.len(), 1);
    let resealed = store.reseal_close(first[0].id, &new_close, &entry).await;
    assert!(resealed.unwrap());

    assert_eq!(sealed_by_other_keys(None).await.len(), 2);
    assert_eq!(closes_of(&store, "anew").await[0].sealed, new_close);
    // A pending close that its holder settles meanwhile is not sealed again.
    let settled = store
        .claim_close(first[1].id, at(9))
        .await
        .unwrap()
        .unwrap();
    assert!(store.finish_close(&settled).await.unwrap());
    let resealed = store.reseal_close(first[1].id, &new_close, &entry).await;
    assert!(!resealed.unwrap());
}
