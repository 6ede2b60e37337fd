//! What nobody knows the conversation of: kept for a while, but for erased users.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{Admission, Arrival, Candidate, Change, Fate};
use crate::store::log::batch;
use crate::store::tx::{Tx, on};
use crate::store::{Error, UserRef};

/// Keeps what nobody knows the conversation of, but for what is about an erased one.
pub(super) async fn keep(
    tx: &mut Tx,
    arrivals: &[Arrival],
    unmatched: &[usize],
    admission: &mut Admission,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let unmatched: Vec<_> = unmatched
        .iter()
        .filter_map(|index| Some((*index, arrivals.get(*index)?)))
        .collect();
    if unmatched.is_empty() {
        return Ok(());
    }
    let keys = unmatched
        .iter()
        .map(|(_, arrival)| json!({"key": erased_key(&arrival.place)}));
    let erased: Vec<(String,)> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT key FROM erased_conversations WHERE key IN (SELECT value ->> 'key' FROM json_each($1))",
        )
        .bind(batch(keys))
        .fetch_all(db)
        .await?
    });
    let erased: HashSet<_> = erased.into_iter().map(|(key,)| key).collect();
    let mut rows = Vec::new();
    for (index, arrival) in unmatched {
        let gone = erased.contains(&erased_key(&arrival.place));
        if let Some(fate) = admission.fates.get_mut(index) {
            *fate = if gone { Fate::Erased } else { Fate::Early };
        }
        if gone {
            continue;
        }
        admission.look_again.push(arrival.place.clone());
        rows.push(json!({
            "account": arrival.account_id.as_str(),
            "place": arrival.place,
            "consumer": arrival.consumer_id,
            "dialog": arrival.dialog(),
            "sequence": arrival.turn.as_ref().map(|turn| turn.sequence),
            "state": arrival.open.map(|open| if open { "open" } else { "closed" }),
            "kind": arrival.kind,
            "body": arrival.body,
            "traceparent": arrival.parent.as_ref().map(|parent| &parent.traceparent),
            "tracestate": arrival.parent.as_ref().and_then(|parent| parent.tracestate.as_ref()),
            "signed": arrival.signed,
        }));
    }
    insert(tx, &rows, now).await
}

/// Keeps messages until their dialogs are known, each at the place of its dialog and with its conversation.
pub(super) async fn keep_withheld(
    tx: &mut Tx,
    arrivals: &[Arrival],
    withheld: &[(&Candidate<'_>, &str)],
    admission: &mut Admission,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut rows = Vec::new();
    for (candidate, conversation) in withheld {
        let Some(dialog) = candidate.side else {
            continue;
        };
        let (kind, body, parent) = match candidate.change {
            Change::Arrived(index) => match arrivals.get(index) {
                Some(arrival) => (arrival.kind, &*arrival.body, arrival.parent.as_ref()),
                None => continue,
            },
            Change::Kept { kind, body, parent } => (kind, body, parent),
        };
        admission.look_again.push(dialog.to_owned());
        rows.push(json!({
            "account": candidate.account_id,
            "place": dialog,
            "dialog": dialog,
            "sequence": candidate.turn.as_ref().map(|turn| turn.sequence),
            "kind": kind,
            "body": body,
            "traceparent": parent.map(|parent| &parent.traceparent),
            "tracestate": parent.and_then(|parent| parent.tracestate.as_ref()),
            "withheld_of": conversation,
        }));
    }
    insert(tx, &rows, now).await
}

async fn insert(tx: &mut Tx, rows: &[serde_json::Value], now: DateTime<Utc>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO early_changes
                 (account_id, place, consumer_id, dialog_id, sequence, state, kind, body, traceparent, tracestate,
                  withheld_of, signed, received_at)
             SELECT value ->> 'account', value ->> 'place', value ->> 'consumer', value ->> 'dialog',
                    CAST(value ->> 'sequence' AS BIGINT), value ->> 'state',
                    value ->> 'kind', value ->> 'body', value ->> 'traceparent',
                    value ->> 'tracestate', value ->> 'withheld_of',
                    value ->> 'signed', $2
             FROM json_each($1) ORDER BY CAST(key AS BIGINT)",
        )
        .bind(batch(rows.iter()))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// Removes what was kept for a user's dialogs or consumer id, and remembers that nothing more is to be.
pub(in crate::store) async fn forget_changes(
    tx: &mut Tx,
    user: UserRef,
    dialogs: &[String],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "DELETE FROM early_changes
             WHERE place IN (SELECT value ->> 'place' FROM json_each($1))
                OR (account_id, consumer_id) = (SELECT account_id, consumer_id FROM users WHERE id = $2)",
        )
        .bind(batch(dialogs.iter().map(|id| json!({"place": id}))))
        .bind(user.0)
        .execute(db)
        .await?
        .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(
            "DELETE FROM early_changes
             WHERE withheld_of IN (SELECT value ->> 'place' FROM json_each($1))",
        )
        .bind(batch(dialogs.iter().map(|id| json!({"place": id}))))
        .execute(db)
        .await?
        .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO erased_conversations (key, erased_at)
             SELECT value ->> 'key', $2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(batch(
            dialogs.iter().map(|id| json!({"key": erased_key(id)})),
        ))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// What a conversation or dialog of an erased user is remembered by: not its id.
fn erased_key(place: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(place.as_bytes()))
}
