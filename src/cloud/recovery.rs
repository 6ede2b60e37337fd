//! News of hosts that serve again after an outage, for whoever has work that waits for them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::Client;
use crate::types::ids::AccountId;

/// The accounts that a host serves again and that nobody has been told of.
#[derive(Default)]
pub(super) struct Recoveries {
    accounts: Mutex<BTreeSet<AccountId>>,
    news: Notify,
}

/// One account's way to tell that a host serves it again.
#[derive(Clone)]
pub(super) struct Recovery {
    account: AccountId,
    all: Arc<Recoveries>,
}

impl Recovery {
    pub(super) fn new(account: AccountId, all: Arc<Recoveries>) -> Self {
        Self { account, all }
    }

    /// Tells that a host of the account serves again.
    pub(super) fn tell(&self) {
        let mut accounts = self.all.lock();
        accounts.insert(self.account.clone());
        drop(accounts);
        self.all.news.notify_one();
    }
}

impl Recoveries {
    /// An account that nobody has been told of.
    pub(super) fn next(&self) -> Option<AccountId> {
        self.lock().pop_first()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<AccountId>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Waits until a host that was taken for away serves an account again; returns the account. One caller is told
    /// of each.
    pub async fn recovered(&self) -> AccountId {
        loop {
            if let Some(account) = self.recoveries.next() {
                return account;
            }
            self.recoveries.news.notified().await;
        }
    }
}
