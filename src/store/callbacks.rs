//! The state of channels' callback URLs, over all their users.
//!
//! Failures in a row are counted. From [`PROBE_AFTER_FAILURES`] failures on, the callback counts as
//! unavailable: only one event at a time is sent to it, a probe. To claim a probe, a replica moves
//! the time of the next one; then it sends the probe. While the callback is unavailable, only
//! failed probes are counted, because failures of deliveries that were already in flight say
//! nothing new.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::audit::record;
use super::delivery_lanes::Lane;
use super::engine::batching::BatchedQuery;
use super::engine::tx::on;
use super::{Error, Store, run};
use crate::types::audit::Entry;
use crate::types::delivery::{CallbackSchedule, PROBE_AFTER_FAILURES, Pause};
use crate::types::ids::ChannelId;

/// Adds $5 failures of a callback, up to $2 in total unless they are failures of probes ($3). From
/// $2 on the callback is probed, first at $4.
const ADD_FAILURES: &str = "INSERT INTO callbacks (channel_id, failures, probe_at)
     VALUES ($1, CASE WHEN $5 < $2 OR $3 = 1 THEN $5 ELSE $2 END, CASE WHEN $5 >= $2 THEN $4 END)
     ON CONFLICT (channel_id) DO UPDATE
     SET failures = CASE WHEN $3 = 1 OR callbacks.failures + $5 < $2 THEN callbacks.failures + $5
                         WHEN callbacks.failures < $2 THEN $2 ELSE callbacks.failures END,
         probe_at = CASE WHEN callbacks.failures + $5 >= $2 THEN COALESCE(callbacks.probe_at, $4) END
     RETURNING failures";

#[derive(sqlx::FromRow)]
struct ScheduleRow {
    due_at: Option<i64>,
    failures: Option<i64>,
    paused_at: Option<i64>,
    probe_at: Option<i64>,
}

/// A batched count of a failure. The answer is the callback's number of failures in a row.
#[derive(Debug)]
pub(super) struct CountFailure {
    channel_id: ChannelId,
    probing: bool,
    probe_at: DateTime<Utc>,
}

impl BatchedQuery for CountFailure {
    type Answer = i64;

    async fn run(store: &Store, queries: &[&Self]) -> Result<Vec<i64>, Error> {
        // Failures of one callback are added in one statement. Callbacks are updated in one order
        // everywhere, to avoid deadlocks.
        let mut counts = BTreeMap::new();
        for it in queries {
            let (count, _) = counts
                .entry((&it.channel_id, it.probing))
                .or_insert((0_i64, it.probe_at));
            *count += 1;
        }
        let mut failures = BTreeMap::new();
        let mut tx = store.begin().await?;
        for ((channel_id, probing), (count, probe_at)) in counts {
            let (now,): (i64,) = on!(tx, |db| {
                sqlx::query_as(ADD_FAILURES)
                    .bind(channel_id.as_str())
                    .bind(i64::from(PROBE_AFTER_FAILURES))
                    .bind(i64::from(probing))
                    .bind(probe_at.timestamp_millis())
                    .bind(count)
                    .fetch_one(db)
                    .await?
            });
            failures.insert((channel_id, probing), now);
        }
        tx.commit().await?;
        let own = |it: &&Self| failures.get(&(&it.channel_id, it.probing)).copied();
        Ok(queries.iter().filter_map(own).collect())
    }
}

impl Store {
    /// Reads the schedule of a channel's callback. It is the only query that runs while nothing
    /// happens.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn callback_schedule(
        &self,
        channel_id: &ChannelId,
    ) -> Result<CallbackSchedule, Error> {
        let row: ScheduleRow = run!(self, readers, |db| {
            sqlx::query_as(
            "SELECT (SELECT MIN(due_at) FROM delivery_lanes WHERE channel_id = $1 AND due_at IS NOT NULL) AS due_at,
                    c.failures, c.paused_at, c.probe_at
             FROM (SELECT 1 AS one) always LEFT JOIN callbacks c ON c.channel_id = $1",
        )
        .bind(channel_id.as_str())
        .fetch_one(db)
        .await?
        });
        let time = |ms| {
            DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
                what: "time of a callback",
            })
        };
        Ok(CallbackSchedule {
            due_at: row.due_at.map(time).transpose()?,
            failures: u32::try_from(row.failures.unwrap_or_default()).unwrap_or(u32::MAX),
            paused: row.paused_at.is_some(),
            probe_at: row.probe_at.map(time).transpose()?,
        })
    }

    /// Claims the right to probe an unavailable callback, and with it a lane, whose first event is
    /// the probe. The next probe may be sent when this one has ended, or at `until` if it never
    /// does.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn claim_probe(
        &self,
        channel_id: &ChannelId,
        lease_id: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Lane>, Error> {
        let claimed = run!(self, writer, |db| {
            sqlx::query(
            "UPDATE callbacks SET probe_at = $3
             WHERE channel_id = $1 AND failures >= $4 AND paused_at IS NULL AND (probe_at IS NULL OR probe_at <= $2)",
        )
        .bind(channel_id.as_str())
        .bind(now.timestamp_millis())
        .bind(until.timestamp_millis())
        .bind(i64::from(PROBE_AFTER_FAILURES))
        .execute(db)
        .await?
        .rows_affected()
        });
        if claimed == 0 {
            return Ok(None);
        }
        let lanes = self
            .claim_delivery_lanes(channel_id, lease_id, now, until, 1)
            .await?;
        let lane = lanes.into_iter().next();
        if lane.is_none() {
            // Another replica has claimed the only lane, so the right to probe is given back.
            self.schedule_probe(channel_id, now).await?;
        }
        Ok(lane)
    }

    /// Sets the time of the next probe.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn schedule_probe(
        &self,
        channel_id: &ChannelId,
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| sqlx::query(
            "UPDATE callbacks SET probe_at = $2 WHERE channel_id = $1 AND probe_at IS NOT NULL",
        )
        .bind(channel_id.as_str())
        .bind(at.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected());
        Ok(())
    }

    /// Counts a failure of a callback. Returns the number of failures in a row. `probe_at` is the
    /// time of the first probe, in case this failure makes the callback unavailable.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn callback_failed(
        &self,
        channel_id: &ChannelId,
        probing: bool,
        probe_at: DateTime<Utc>,
    ) -> Result<u32, Error> {
        let failed = CountFailure {
            channel_id: channel_id.clone(),
            probing,
            probe_at,
        };
        let failures = self.run_batched(failed).await?;
        Ok(u32::try_from(failures).unwrap_or(u32::MAX))
    }

    /// Resets the failures of a callback that has answered. If it was unavailable, all pending
    /// events become due at once.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn callback_succeeded(
        &self,
        channel_id: &ChannelId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let reset = async |at_least: u32| -> Result<u64, Error> {
            Ok(run!(self, writer, |db| {
                sqlx::query(
                "UPDATE callbacks SET failures = 0, probe_at = NULL WHERE channel_id = $1 AND failures >= $2",
            )
            .bind(channel_id.as_str())
            .bind(i64::from(at_least))
            .execute(db)
            .await?
            .rows_affected()
            }))
        };
        if reset(PROBE_AFTER_FAILURES).await? > 0 {
            return self.wake_lanes(channel_id, now).await;
        }
        reset(1).await?;
        Ok(())
    }

    /// Pauses all deliveries to a callback until an operator resumes it.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn pause_callback(
        &self,
        channel_id: &ChannelId,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        run!(self, writer, |db| {
            sqlx::query(
            "INSERT INTO callbacks (channel_id, paused_at) VALUES ($1, $2)
             ON CONFLICT (channel_id) DO UPDATE SET paused_at = COALESCE(callbacks.paused_at, excluded.paused_at)",
        )
        .bind(channel_id.as_str())
        .bind(now.timestamp_millis())
        .execute(db)
        .await?
        .rows_affected()
        });
        Ok(())
    }

    /// Pauses a callback on behalf of an operator, and records that in the audit log. If the
    /// callback is already paused, its earlier reason stays.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub async fn pause_callback_by_operator(
        &self,
        channel_id: &ChannelId,
        now: DateTime<Utc>,
        entry: &Entry,
    ) -> Result<(), Error> {
        let mut tx = self.begin().await?;
        on!(tx, |db| {
            sqlx::query(
                "INSERT INTO callbacks (channel_id, paused_at, operator_paused_at) VALUES ($1, $2, $2)
                 ON CONFLICT (channel_id) DO UPDATE SET paused_at = excluded.paused_at, operator_paused_at = excluded.operator_paused_at
                 WHERE callbacks.paused_at IS NULL",
            )
            .bind(channel_id.as_str())
            .bind(now.timestamp_millis())
            .execute(db)
            .await?
            .rows_affected()
        });
        record(&mut tx, entry).await?;
        // Wakes the deliveries that are running, so that they see the pause and stop.
        tx.wake(channel_id.clone());
        tx.commit().await
    }
}

impl Pause {
    /// Reads the pause of a callback. `operator_paused_at` is the time of the latest pause by an
    /// operator, which equals `paused_at` if the operator caused this one.
    pub(super) fn read(
        paused_at: Option<i64>,
        operator_paused_at: Option<i64>,
    ) -> Result<Option<Self>, Error> {
        let pause = |at| {
            let since = DateTime::from_timestamp_millis(at).ok_or(Error::Unreadable {
                what: "time of a callback",
            })?;
            let by_operator = operator_paused_at == Some(at);
            Ok(Self { since, by_operator })
        };
        paused_at.map(pause).transpose()
    }
}
