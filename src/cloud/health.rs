//! How an account's part of the Cloud fares, as this replica sees it: for operators who look, not for decisions.

use super::Client;
use super::watch::{AwayHost, KnownHost, TokenTimes, Trouble};
use crate::types::ids::AccountId;

/// How one account fares.
#[derive(Debug, Clone)]
pub struct Health {
    /// The account.
    pub account_id: AccountId,
    /// The hosts that are known by now.
    pub hosts: Vec<KnownHost>,
    /// Those that are taken for away, of those that were tried lately.
    pub away: Vec<AwayHost>,
    /// The `AppJWT` at hand, without which nothing is sent; none before it is first needed.
    pub app_token: Option<TokenTimes>,
    /// What went wrong last, if anything did.
    pub last_trouble: Option<Trouble>,
}

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
