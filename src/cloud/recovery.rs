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
    notify: Notify,
}

/// The handle by which one account announces that a host serves it again.
#[derive(Clone)]
pub(super) struct Recovery {
    account: AccountId,
    recoveries: Arc<Recoveries>,
}

impl Recovery {
    pub(super) fn new(account: AccountId, recoveries: Arc<Recoveries>) -> Self {
        Self {
            account,
            recoveries,
        }
    }

    /// Announces that a host serves the account again.
    pub(super) fn announce(&self) {
        let mut accounts = self.recoveries.lock();
        accounts.insert(self.account.clone());
        drop(accounts);
        self.recoveries.notify.notify_one();
    }
}

impl Recoveries {
    /// Takes an account that no caller has received yet.
    pub(super) fn take(&self) -> Option<AccountId> {
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
            if let Some(account) = self.recoveries.take() {
                return account;
            }
            self.recoveries.notify.notified().await;
        }
    }
}
