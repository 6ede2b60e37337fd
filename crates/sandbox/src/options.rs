//! The options with which a sandbox is created.

use secrecy::{ExposeSecret, SecretString};

use super::agent::Script;
use super::behaviour::Behaviour;
use super::stage::Stage;
use super::webhooks::Webhook;
use liveperson_bridge_web::cross_site::HostNames;

/// The options with which a sandbox is created.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The app installations that exist. If empty, any account with any client id and secret
    /// exists.
    pub accounts: Vec<Credentials>,
    /// The base URI in the answers to domain lookups; `None` for `http://` and the `Host` of the
    /// lookup.
    pub public_url: Option<String>,
    /// The Cloud's behaviour at the start.
    pub behaviour: Behaviour,
    /// The webhooks that are subscribed at the start.
    pub webhooks: Vec<Webhook>,
    /// The script by which the agent answers at the start; `None` if no agent answers.
    pub agent: Option<Script>,
    /// The host names by which the page and the control API may be called, besides IP addresses and
    /// `localhost`.
    pub hosts: HostNames,
    /// The surroundings of the Cloud.
    pub stage: Stage,
}

/// An app installation of one account.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The account id, also called brand id or site id.
    pub account_id: String,
    /// The client id of the installation.
    pub client_id: String,
    /// The client secret of the installation.
    pub client_secret: SecretString,
}

impl Options {
    pub(super) fn has_account(&self, account: &str) -> bool {
        self.accounts.is_empty() || self.accounts.iter().any(|c| c.account_id == account)
    }

    pub(super) fn has_client(&self, account: &str, client_id: &str) -> bool {
        self.accounts.is_empty()
            || self
                .accounts
                .iter()
                .any(|c| c.account_id == account && c.client_id == client_id)
    }

    pub(super) fn accepts(&self, account: &str, client_id: &str, client_secret: &str) -> bool {
        self.accounts.is_empty()
            || self.accounts.iter().any(|c| {
                c.account_id == account
                    && c.client_id == client_id
                    && c.client_secret.expose_secret() == client_secret
            })
    }
}
