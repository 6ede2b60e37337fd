//! How an account's part of the Cloud fares, as this replica sees it: for operators who look, not for decisions.

use super::Client;
use crate::types::status::Health;

impl Client {
    /// How the accounts fare, in the order of their ids.
    #[must_use]
    pub fn health(&self) -> Vec<Health> {
        let mut all: Vec<_> = self
            .sites
            .iter()
            .map(|(account_id, site)| Health {
                account_id: account_id.clone(),
                hosts: site.transport.domains.known(),
                away: site.away_hosts(),
                app_token: site.tokens.times(),
                last_trouble: site.transport.watch.last_trouble(),
            })
            .collect();
        all.sort_by(|one, other| one.account_id.cmp(&other.account_id));
        all
    }
}
