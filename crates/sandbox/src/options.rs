//! What a sandbox is made with.

use secrecy::{ExposeSecret, SecretString};

use super::agent::Script;
use super::behaviour::Behaviour;
use super::hooks::Webhook;
use super::stage::Stage;
use liveperson_bridge_web::cross_site::HostNames;

/// What a sandbox is made with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The app installations that exist; when empty, any account with any client id and secret does.
    pub accounts: Vec<Credentials>,
    /// The base URI that domain look-ups answer; when absent, `http://` and the `Host` of the look-up.
    pub public_url: Option<String>,
    /// How the Cloud behaves at first.
    pub behaviour: Behaviour,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
    /// Whether an agent answers by itself, and how fast.
    pub agent: Option<Script>,
    /// Host names by which the page and the control may be called, beside IP addresses and `localhost`.
    pub hosts: HostNames,
    /// What stands around the Cloud.
    pub stage: Stage,
}

/// An app installation of one account.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Account id, also called brand id or site id.
    pub account_id: String,
    /// The installation's client id.
    pub client_id: String,
    /// The installation's client secret.
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
