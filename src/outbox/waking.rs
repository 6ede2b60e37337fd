//! What waits for the Cloud goes on when the Cloud is back: pauses between tries grow to minutes, and an outage may end at the
//! beginning of one.
//!
//! The first request that a host serves after an outage makes all lanes due that wait for the account's Cloud, and all closes of
//! erased users' conversations: a few at first and more each second, so that it is not hit by all at once.

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

/// The lanes that are made due in the first second; their number doubles from second to second.
const FIRST_LANES: u32 = 4;

/// The lanes that are made due in a second at most.
const MOST_LANES: u32 = 512;

/// 1 s: the pause between two steps.
const STEP: Duration = Duration::from_secs(1);

/// The reasons that end with an outage; a Cloud that throttles says itself how long.
const REASONS: [&str; 4] = [
    Code::CloudUnavailable.as_str(),
    BLOCKED,
    Code::CloudCredentialsRefused.as_str(),
    Code::ConversationPending.as_str(),
];

/// The same for closes of erased users' conversations, which do no harm when they are done twice.
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
    under_way: HashMap<AccountId, AbortHandle>,
}

impl Waking {
    /// Begins with an account's lanes, unless that is under way.
    fn begin(&mut self, outbox: &Outbox, account: AccountId) {
        while self.tasks.try_join_next().is_some() {}
        self.under_way.retain(|_, task| !task.is_finished());
        let Entry::Vacant(vacant) = self.under_way.entry(account) else {
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

    /// Makes lanes and closes due that wait for the account's Cloud, so many of each at most; says whether there may be more.
    async fn hurry(
        &self,
        account_id: &AccountId,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<bool, store::Error> {
        let store = &self.bridge.parts.store;
        let lanes = store.hurry_lanes(account_id, &REASONS, now, limit).await?;
        if lanes > 0 {
            self.due.notify_one();
        }
        let closes = store.hurry_closes(account_id, &REASONS_OF_CLOSES, now, limit);
        let closes = closes.await?;
        if closes > 0 {
            self.bridge.closes_due.notify_one();
        }
        Ok(lanes.max(closes) >= u64::from(limit))
    }

    /// Makes the lanes due that wait for the account's Cloud, until none does, or it is away again, or the service stops.
    async fn wake_lanes(&self, account_id: &AccountId) {
        let mut limit = FIRST_LANES;
        loop {
            let now = self.bridge.parts.clock.now();
            match self.hurry(account_id, now, limit).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    if !error.is_outage() {
                        tracing::warn!(
                            account.id = %account_id,
                            error = &error as &dyn std::error::Error,
                            "queued requests that wait for the Cloud could not be hurried; each is tried when its pause ends"
                        );
                    }
                    return;
                }
            }
            limit = limit.saturating_mul(2).min(MOST_LANES);
            tokio::select! {
                () = self.bridge.parts.stopping.cancelled() => return,
                () = sleep(STEP) => {}
            }
            if self.bridge.parts.cloud.is_messaging_away(account_id) {
                return;
            }
        }
    }
}
