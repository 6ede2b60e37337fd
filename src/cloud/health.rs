//! The health of the accounts at the Cloud, as this replica sees it. It is for operators. No code
//! makes a decision by it.

use super::Client;
use crate::types::status::Health;

impl Client {
    /// Returns the health of all accounts, ordered by their ids.
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
