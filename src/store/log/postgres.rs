//! Appending events in PostgreSQL, with one statement for all logs.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::{Logs, NewEvent};
use crate::store::UserRef;
use crate::store::rows::column;

/// Advances the heads of the logs, in order, and inserts the events behind the existing ones.
const APPEND: &str = "WITH grown AS (
         INSERT INTO logs (channel_id, head) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT (channel_id) DO UPDATE SET head = logs.head + excluded.head
         RETURNING channel_id, head)
     INSERT INTO events
         (channel_id, position, id, user_ref, kind, body, traceparent, tracestate, created_at, delivery, deliver_until)
     SELECT e.channel_id, grown.head - e.before_head, e.id, e.user_ref, e.kind, e.body, e.traceparent, e.tracestate, $3,
            CASE WHEN e.deliver_until IS NOT NULL THEN 'pending' END, e.deliver_until
     FROM unnest($4::text[], $5::bigint[], $6::text[], $7::bigint[], $8::text[],
                 $9::text[], $10::text[], $11::text[], $12::bigint[])
          AS e (channel_id, before_head, id, user_ref, kind, body, traceparent, tracestate, deliver_until)
     JOIN grown USING (channel_id)";

pub(super) async fn append(
    db: &mut PgConnection,
    logs: &Logs<'_>,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let channels: Vec<_> = logs.keys().map(|channel_id| channel_id.as_str()).collect();
    let counts: Vec<_> = logs.values().map(|events| count(events)).collect();
    // The distance of each event from the new end of its log.
    let before_head = logs.values().flat_map(|events| (0..count(events)).rev());
    let events: Vec<_> = logs.values().flatten().copied().collect();
    sqlx::query(APPEND)
        .bind(&channels)
        .bind(&counts)
        .bind(now.timestamp_millis())
        .bind(column(&events, |it| it.channel_id.as_str()))
        .bind(before_head.collect::<Vec<_>>())
        .bind(column(&events, |it| it.id.to_string()))
        .bind(column(&events, |it| it.user.map(|UserRef(user)| user)))
        .bind(column(&events, |it| it.kind.as_str()))
        .bind(column(&events, |it| it.body.as_str()))
        .bind(column(&events, |it| {
            Some(it.parent.as_ref()?.traceparent.as_str())
        }))
        .bind(column(&events, |it| {
            it.parent.as_ref()?.tracestate.as_deref()
        }))
        .bind(column(&events, |it| {
            Some(it.deliver_until?.timestamp_millis())
        }))
        .execute(db)
        .await?;
    Ok(())
}

fn count(events: &[&NewEvent]) -> i64 {
    i64::try_from(events.len()).unwrap_or(i64::MAX)
}
