//! Notices of hosts that serve again after an outage, for callers that have work waiting for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Client;
use crate::types::ids::AccountId;

/// The accounts that a host serves again and that no caller has received yet.
#[derive(Default)]
pub(super) struct Recoveries {
    accounts: Mutex<BTreeSet<AccountId>>,
    news: Notify,
}

/// The handle by which one account announces that a host serves it again.
#[derive(Clone)]
pub(super) struct Recovery {
    account: AccountId,
    all: Arc<Recoveries>,
}

impl Recovery {
    pub(super) fn new(account: AccountId, all: Arc<Recoveries>) -> Self {
        Self { account, all }
    }

    /// Announces that a host serves the account again.
    pub(super) fn tell(&self) {
        let mut accounts = self.all.lock();
        accounts.insert(self.account.clone());
        drop(accounts);
        self.all.news.notify_one();
    }
}

impl Recoveries {
    /// Takes an account that no caller has received yet.
    pub(super) fn next(&self) -> Option<AccountId> {
        self.lock().pop_first()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<AccountId>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Waits until a host whose circuit breaker was open serves an account again, and returns the
    /// account. Each recovery is returned to one caller only.
    pub async fn recovered(&self) -> AccountId {
        loop {
            if let Some(account) = self.recoveries.next() {
                return account;
            }
            self.recoveries.news.notified().await;
        }
    }
}
