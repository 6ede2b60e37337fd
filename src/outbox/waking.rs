//! Resumption of queued requests when the Cloud is available again. The pauses between attempts
//! grow to minutes, and an outage may end at the start of one.
//!
//! When a host answers the first request after an outage, all lanes that wait for the account's
//! Cloud become due. So do all closes of erased users' conversations. A few become due at first and
//! more each second, so that they do not hit the Cloud all at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::Outbox;
use crate::store;
use crate::types::ids::AccountId;
use crate::types::problem::{BLOCKED, Code};

/// 4: the number of lanes that become due in the first second. It doubles from second to second.
const FIRST_LANES: u32 = 4;

/// 512: the maximum number of lanes that become due in a second.
const MAX_LANES: u32 = 512;

/// 1 s: the pause between two steps.
const STEP: Duration = Duration::from_secs(1);

/// The reasons to wait that end with an outage. Throttling is not one of them, because the Cloud
/// then says how long to wait.
const REASONS: [&str; 4] = [
    Code::CloudUnavailable.as_str(),
    BLOCKED,
    Code::CloudCredentialsRefused.as_str(),
    Code::ConversationPending.as_str(),
];

/// The same for closes of erased users' conversations, which do no harm if they are repeated.
const REASONS_OF_CLOSES: [&str; 4] = [
    Code::CloudUnavailable.as_str(),
    Code::CloudOutcomeUnknown.as_str(),
    Code::CloudCredentialsRefused.as_str(),
    Code::InternalError.as_str(),
];

/// The accounts whose lanes are being made due.
#[derive(Default)]
struct Waking {
    tasks: JoinSet<()>,
    in_progress: HashMap<AccountId, AbortHandle>,
}

impl Waking {
    /// Starts to make an account's lanes due, unless that is in progress.
    fn begin(&mut self, outbox: &Outbox, account: AccountId) {
        while self.tasks.try_join_next().is_some() {}
        self.in_progress.retain(|_, task| !task.is_finished());
        let Entry::Vacant(vacant) = self.in_progress.entry(account) else {
            return;
        };
        let (outbox, account) = (outbox.clone(), vacant.key().clone());
        let waking = async move { outbox.wake_lanes(&account).await };
        vacant.insert(self.tasks.spawn(waking));
    }
}

impl Outbox {
    /// Makes lanes due after outages of the Cloud, until the service stops.
    pub async fn wake_after_outages(self) {
        let mut waking = Waking::default();
        loop {
            tokio::select! {
                () = self.bridge.parts.stopping.cancelled() => return,
                account = self.bridge.parts.cloud.recovered() => waking.begin(&self, account),
            }
        }
    }

    /// Makes lanes and closes due that wait for the account's Cloud, at most `limit` of each.
    /// Returns true if there may be more.
    async fn make_due(
        &self,
        account_id: &AccountId,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<bool, store::Error> {
        let store = &self.bridge.parts.store;
        let lanes = store
            .make_lanes_due(account_id, &REASONS, now, limit)
            .await?;
        if lanes > 0 {
            self.due.notify_one();
        }
        let closes = store.make_closes_due(account_id, &REASONS_OF_CLOSES, now, limit);
        let closes = closes.await?;
        if closes > 0 {
            self.bridge.closes_due.notify_one();
        }
        Ok(lanes.max(closes) >= u64::from(limit))
    }

    /// Makes the lanes due that wait for the account's Cloud, until none is left, the Cloud becomes
    /// unavailable again, or the service stops.
    async fn wake_lanes(&self, account_id: &AccountId) {
        let mut limit = FIRST_LANES;
        loop {
            let now = self.bridge.parts.clock.now();
            match self.make_due(account_id, now, limit).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    if !error.is_outage() {
                        tracing::warn!(
                            account.id = %account_id,
                            error = &error as &dyn std::error::Error,
                            "queued requests could not be made due early; each is retried when its pause ends"
                        );
                    }
                    return;
                }
            }
            limit = limit.saturating_mul(2).min(MAX_LANES);
            tokio::select! {
                () = self.bridge.parts.stopping.cancelled() => return,
                () = sleep(STEP) => {}
            }
            if self.bridge.parts.cloud.is_messaging_unavailable(account_id) {
                return;
            }
        }
    }
}
