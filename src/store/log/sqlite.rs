//! Appending events in SQLite, one log after the other.

use chrono::{DateTime, Utc};
use serde_json::json;

use super::Logs;
use crate::store::Error;
use crate::store::engine::tx::{Tx, on};
use crate::store::rows::batch;

pub(super) async fn append(tx: &mut Tx, logs: &Logs<'_>, now: DateTime<Utc>) -> Result<(), Error> {
    for (channel_id, events) in logs {
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let (head,): (i64,) = on!(tx, |db| {
            sqlx::query_as(
                "INSERT INTO logs (channel_id, head) VALUES ($1, $2)
                 ON CONFLICT (channel_id) DO UPDATE SET head = logs.head + excluded.head RETURNING head",
            )
            .bind(channel_id.as_str())
            .bind(count)
            .fetch_one(db)
            .await?
        });
        let rows = events
            .iter()
            .zip(head - count + 1..)
            .map(|(event, position)| {
                json!({
                    "position": position,
                    "id": event.id.to_string(),
                    "user": event.user.map(|user| user.0),
                    "kind": event.kind.as_str(),
                    "body": event.body,
                    "traceparent": event.parent.as_ref().map(|parent| &parent.traceparent),
                    "tracestate": event.parent.as_ref().and_then(|parent| parent.tracestate.as_ref()),
                    "until": event.deliver_until.map(|until| until.timestamp_millis()),
                })
            });
        on!(tx, |db| {
            sqlx::query(
                "INSERT INTO events
                     (channel_id, position, id, user_ref, kind, body, traceparent, tracestate, created_at, delivery,
                      deliver_until)
                 SELECT $1, value ->> 'position', value ->> 'id', value ->> 'user', value ->> 'kind', value ->> 'body',
                        value ->> 'traceparent', value ->> 'tracestate', $3,
                        CASE WHEN value ->> 'until' IS NOT NULL THEN 'pending' END, value ->> 'until'
                 FROM json_each($2)",
            )
            .bind(channel_id.as_str())
            .bind(batch(rows))
            .bind(now.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
        });
    }
    Ok(())
}
