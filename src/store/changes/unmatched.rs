//! Unmatched changes: kept for a while, except those of erased users.

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::ordering::{Candidate, Content};
use super::{Admission, Arrival, ArrivalOutcome, Subject};
use crate::store::engine::tx::{EngineTx, Tx, on};
use crate::store::rows::batch;
use crate::store::{Error, UserRef};

/// 1 h: the interval at which the record of an erased conversation is renewed while the Cloud still
/// sends changes of that conversation.
const EXTEND_INTERVAL: TimeDelta = TimeDelta::hours(1);

/// Stores the unmatched changes, except those of erased conversations.
pub(super) async fn store_unmatched(
    tx: &mut Tx,
    arrivals: &[Arrival],
    unmatched: &[usize],
    postponed: &HashSet<Subject>,
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
    let subjects = unmatched
        .iter()
        .map(|(_, arrival)| arrival.subject.as_str());
    let erased = erased_among(tx, subjects).await?;
    renew_erasure_records(tx, &erased, now).await?;
    let mut rows = Vec::new();
    for (index, arrival) in unmatched {
        let is_erased = erased.contains(arrival.subject.as_str());
        if let Some(outcome) = admission.outcomes.get_mut(index) {
            *outcome = if is_erased {
                ArrivalOutcome::Erased
            } else {
                ArrivalOutcome::Unmatched
            };
        }
        if is_erased {
            continue;
        }
        admission.recheck.push(arrival.subject.clone());
        rows.push(json!({
            "account": arrival.account_id.as_str(),
            "subject": arrival.subject,
            "consumer": arrival.consumer_id,
            "dialog": arrival.dialog(),
            "sequence": arrival.position.as_ref().map(|position| position.sequence),
            "postponed": (arrival.open.is_some() && postponed.contains(&subject_of(arrival)))
                .then_some(now.timestamp_millis()),
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

fn subject_of(arrival: &Arrival) -> Subject {
    (
        arrival.account_id.as_str().to_owned(),
        arrival.subject.clone(),
    )
}

/// A message in an unknown dialog, as a row to be stored.
pub(super) struct Withheld {
    dialog: String,
    row: Value,
}

impl Withheld {
    /// Builds the row of a message, which is stored under its dialog. `None` if the message names
    /// no dialog.
    pub(super) fn of(
        candidate: &Candidate<'_>,
        arrivals: &[Arrival],
        conversation: &str,
    ) -> Option<Self> {
        let dialog = candidate.named_dialog.as_deref()?;
        let (kind, body, parent) = match &candidate.content {
            Content::Arrived(index) => {
                let arrival = arrivals.get(*index)?;
                (arrival.kind, &*arrival.body, arrival.parent.as_ref())
            }
            Content::Stored { kind, body, parent } => (&**kind, &**body, parent.as_ref()),
        };
        let row = json!({
            "account": candidate.account_id,
            "subject": dialog,
            "dialog": dialog,
            "sequence": candidate.position.as_ref().map(|position| position.sequence),
            "kind": kind,
            "body": body,
            "traceparent": parent.map(|parent| &parent.traceparent),
            "tracestate": parent.and_then(|parent| parent.tracestate.as_ref()),
            "withheld_of": conversation,
        });
        Some(Self {
            dialog: dialog.to_owned(),
            row,
        })
    }
}

/// Stores messages until their dialogs are known, each under its dialog and with its conversation.
pub(super) async fn store_withheld(
    tx: &mut Tx,
    withheld: Vec<Withheld>,
    admission: &mut Admission,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let (dialogs, rows): (Vec<_>, Vec<_>) =
        withheld.into_iter().map(|it| (it.dialog, it.row)).unzip();
    admission.recheck.extend(dialogs);
    insert(tx, &rows, now).await
}

async fn insert(tx: &mut Tx, rows: &[Value], now: DateTime<Utc>) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO unmatched_changes
                 (account_id, subject, consumer_id, dialog_id, sequence, state, kind, body, traceparent, tracestate,
                  withheld_of, signed, postponed_at, received_at)
             SELECT value ->> 'account', value ->> 'subject', value ->> 'consumer', value ->> 'dialog',
                    CAST(value ->> 'sequence' AS BIGINT), value ->> 'state',
                    value ->> 'kind', value ->> 'body', value ->> 'traceparent',
                    value ->> 'tracestate', value ->> 'withheld_of',
                    value ->> 'signed', CAST(value ->> 'postponed' AS BIGINT), $2
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

/// Returns the conversations and dialogs among these that belonged to erased users.
pub(super) async fn erased_among<'a>(
    tx: &mut Tx,
    subjects: impl Iterator<Item = &'a str> + Clone,
) -> Result<HashSet<&'a str>, Error> {
    let keys = subjects
        .clone()
        .map(|subject| json!({"key": erased_key(subject)}));
    let erased: Vec<(String,)> = on!(tx, |db| {
        sqlx::query_as(
            "SELECT key FROM erased_conversations WHERE key IN (SELECT value ->> 'key' FROM json_each($1))",
        )
        .bind(batch(keys))
        .fetch_all(db)
        .await?
    });
    let erased: HashSet<_> = erased.into_iter().map(|(key,)| key).collect();
    let erased_subjects =
        subjects.filter(|subject| !erased.is_empty() && erased.contains(&erased_key(subject)));
    Ok(erased_subjects.collect())
}

/// Renews the records of erased conversations that the Cloud still reports, so that they are kept
/// longer. A conversation that the bridge could not close may stay open for long.
async fn renew_erasure_records(
    tx: &mut Tx,
    subjects: &HashSet<&str>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if subjects.is_empty() {
        return Ok(());
    }
    let renew = match tx.engine {
        EngineTx::Postgres(_) => {
            "UPDATE erased_conversations SET erased_at = $2
             WHERE key = ANY (ARRAY(
                 SELECT key FROM erased_conversations
                 WHERE key IN (SELECT value ->> 'key' FROM json_each($1)) AND erased_at < $3
                 -- sorted, so that two transactions do not deadlock
                 ORDER BY key FOR UPDATE))"
        }
        EngineTx::Sqlite(_) => {
            "UPDATE erased_conversations SET erased_at = $2
             WHERE key IN (SELECT value ->> 'key' FROM json_each($1)) AND erased_at < $3"
        }
    };
    let keys = batch(
        subjects
            .iter()
            .map(|subject| json!({"key": erased_key(subject)})),
    );
    on!(tx, |db| {
        sqlx::query(renew)
            .bind(keys)
            .bind(now.timestamp_millis())
            .bind((now - EXTEND_INTERVAL).timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
    });
    Ok(())
}

/// Deletes the unmatched changes of a user's dialogs and consumer id, and marks the dialogs as
/// erased so that no more are stored.
pub(in crate::store) async fn erase_changes(
    tx: &mut Tx,
    user: UserRef,
    dialogs: &[String],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "DELETE FROM unmatched_changes
             WHERE subject IN (SELECT value ->> 'subject' FROM json_each($1))
                OR (account_id, consumer_id) = (SELECT account_id, consumer_id FROM users WHERE id = $2)",
        )
        .bind(batch(dialogs.iter().map(|id| json!({"subject": id}))))
        .bind(user.0)
        .execute(db)
        .await?
        .rows_affected()
    });
    on!(tx, |db| {
        sqlx::query(
            "DELETE FROM unmatched_changes
             WHERE withheld_of IN (SELECT value ->> 'subject' FROM json_each($1))",
        )
        .bind(batch(dialogs.iter().map(|id| json!({"subject": id}))))
        .execute(db)
        .await?
        .rows_affected()
    });
    record_erasure(tx, dialogs.iter().map(String::as_str), now).await
}

/// Deletes the unmatched changes of a conversation without a user, and marks it as erased so that
/// no more are stored.
pub(in crate::store) async fn erase_conversation(
    tx: &mut Tx,
    id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query("DELETE FROM unmatched_changes WHERE subject = $1")
            .bind(id)
            .execute(db)
            .await?
            .rows_affected()
    });
    record_erasure(tx, std::iter::once(id), now).await
}

async fn record_erasure<'a>(
    tx: &mut Tx,
    subjects: impl Iterator<Item = &'a str>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    on!(tx, |db| {
        sqlx::query(
            "INSERT INTO erased_conversations (key, erased_at)
             SELECT value ->> 'key', $2 FROM json_each($1) WHERE true ON CONFLICT DO NOTHING",
        )
        .bind(batch(subjects.map(|id| json!({"key": erased_key(id)}))))
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
    });
    Ok(())
}

/// Returns the key under which an erased conversation or dialog is recorded. It is a hash, so
/// that the id itself is not kept.
pub(in crate::store) fn erased_key(subject: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(subject.as_bytes()))
}
