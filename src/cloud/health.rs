//! The health of the accounts at the Cloud, as this replica sees it. It is for operators. No code
//! makes a decision by it.

use super::Client;
use crate::types::status::Health;

impl Client {
    /// Returns the health of all accounts, ordered by their ids.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        let mut all: Vec<_> = self
            .clients
            .iter()
            .map(|(account_id, client)| Health {
                account_id: account_id.clone(),
                hosts: client.transport.domains.known_hosts(),
                unavailable_hosts: client.unavailable_hosts(),
                app_token: client.tokens.times(),
                last_error: client.transport.observer.last_error(),
            })
            .collect();
        all.sort_by(|a, b| a.account_id.cmp(&b.account_id));
        all
    }
}
