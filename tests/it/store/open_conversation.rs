//! After any change, the open conversation in a user's row equals the one in the conversations and
//! dialogs.

use std::collections::BTreeMap;

use liveperson_bridge::store::{Store, UserRef};
use liveperson_bridge::types::conversation::DialogKind;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use super::changes::{admit, arrival};
use super::{at, dialog, erase, key, open, replace, report_dialog, survey};
use crate::support::database::{Database, Engine};

on_both_engines!(the_stored_open_conversation_equals_the_derived_one);

const USERS: [&str; 3] = ["ada", "bob", "cyd"];
const SEEDS: u64 = 6;
const CHANGES: u32 = 60;

/// The open conversation in each user's row, by user.
const IN_USER_ROWS: &str = "SELECT user_id, COALESCE(open_conversation, 'null') FROM users";

/// The open conversations: user name, id and features.
const CONVERSATIONS: &str = "SELECT u.user_id, c.id || ' ' || c.features
     FROM conversations c JOIN users u ON u.id = c.user_ref WHERE c.closed_at IS NULL";

/// The open dialogs: conversation, then kind, opening time and id.
const DIALOGS: &str = "SELECT conversation_id, kind || ' ' || opened_at || ' ' || id FROM dialogs WHERE closed_at IS NULL";

async fn the_stored_open_conversation_equals_the_derived_one(engine: Engine) {
    for seed in 0..SEEDS {
        let database = Database::create(engine).await;
        let store = database.store().await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut history = Vec::new();
        for second in 1..=CHANGES {
            history.push(change(&store, &mut rng, second).await);

            let stored = database.pairs(IN_USER_ROWS).await;
            let stored: BTreeMap<_, Value> = stored
                .into_iter()
                .map(|(user, text)| (user, serde_json::from_str(&text).unwrap()))
                .collect();
            let derived = derived(&database, stored.keys()).await;
            assert_eq!(stored, derived, "seed {seed}: {history:#?}");
        }
    }
}

/// Makes a random change, and returns its description.
async fn change(store: &Store, rng: &mut StdRng, second: u32) -> String {
    let name = *USERS.choose(rng).unwrap();
    let user: UserRef = store.ensure_user(&key(name), at(0)).await.unwrap();
    let seconds = i64::from(second);
    // There are few ids, so that many exist already, are closed or belong to another user.
    let id = format!("c{}", rng.random_range(0..6));
    let survey_id = format!("s{}", rng.random_range(0..6));
    let conversation = id.parse().unwrap();
    match rng.random_range(0..12) {
        0 | 1 => {
            let opened = open(store, user, &id, seconds).await;
            format!("open {id} for {name}: {opened}")
        }
        2 => {
            let replaced = format!("c{}", rng.random_range(0..6));
            let opened = replace(store, user, Some(&replaced), &id, seconds).await;
            format!("open {id} in place of {replaced} for {name}: {opened}")
        }
        3 => {
            let closed = store.close_conversation(&conversation, at(seconds), None);
            format!("close {id}: {}", closed.await.unwrap())
        }
        4 => {
            let reopened = store.reopen_conversation(user, &conversation).await;
            format!("reopen {id} for {name}: {}", reopened.unwrap())
        }
        5 => {
            store.reopen_main_dialog(user, &conversation).await.unwrap();
            format!("reopen the main dialog of {id} for {name}")
        }
        6 => {
            let dialog_id = (*[&id, &survey_id].choose(rng).unwrap()).clone();
            let closed = store.close_dialog(&dialog_id, at(seconds)).await.unwrap();
            format!("close dialog {dialog_id}: {closed}")
        }
        7 | 8 => {
            let end = rng.random_bool(0.4).then_some(seconds);
            let dialog_change = if rng.random_bool(0.7) {
                survey(&survey_id, seconds, end)
            } else {
                dialog(&id, DialogKind::Main, seconds, end)
            };
            let is_known = report_dialog(store, &id, &dialog_change).await;
            format!("report {dialog_change:?} of {id}: {is_known}")
        }
        9 | 10 => {
            let state = *["open", "closed"].choose(rng).unwrap();
            let body = if rng.random_bool(0.5) {
                format!("state {second} {state}")
            } else {
                format!("survey {second} {survey_id}")
            };
            admit(store, &[arrival(&id, None, &body)], &[]).await;
            format!("change {id}: {body}")
        }
        _ => {
            erase(store, user, seconds).await;
            format!("erase {name}")
        }
    }
}

/// Derives the open conversations that the users' rows should have.
async fn derived(
    database: &Database,
    users: impl Iterator<Item = &String>,
) -> BTreeMap<String, Value> {
    let conversations: BTreeMap<_, _> = database.pairs(CONVERSATIONS).await.into_iter().collect();
    let dialogs = database.pairs(DIALOGS).await;
    let state = |user: &String| {
        let (id, features) = conversations.get(user)?.split_once(' ').unwrap();
        let features: Value = serde_json::from_str(features).unwrap();
        let own = dialogs
            .iter()
            .filter(|(conversation, _)| conversation == id);
        let own = own.map(|(_, dialog)| {
            let parts: Vec<_> = dialog.split(' ').collect();
            let opened_at: i64 = parts[1].parse().unwrap();
            (parts[0].to_owned(), opened_at, parts[2].to_owned())
        });
        // A survey ranks before the main dialog, and a later survey before an earlier one.
        let dialog = own.max().map(|(_, _, id)| id);
        Some(json!({"id": id, "features": features, "dialog": dialog}))
    };
    users
        .map(|user| (user.clone(), state(user).unwrap_or_default()))
        .collect()
}
