//! What a sandbox is made with, and how it behaves where the Cloud's documents conflict or are silent.

use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};

use super::agent::Script;
use super::hooks::Webhook;
use super::stage::Stage;

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

/// How the Cloud behaves where its documents conflict or are silent.
#[derive(Debug, Clone, Copy)]
pub struct Behaviour {
    /// The form of the look-up of one domain.
    pub lookup_form: LookupForm,
    /// Status of "already has open conversation": 400 by the vendor's how-to, 200 cannot be excluded.
    pub already_open_status: StatusCode,
    /// Status of "Conversation is close", which no source states.
    pub closed_status: StatusCode,
    /// Whether a survey is assigned to every skill.
    pub surveys: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            lookup_form: LookupForm::default(),
            already_open_status: StatusCode::BAD_REQUEST,
            closed_status: StatusCode::BAD_REQUEST,
            surveys: true,
        }
    }
}

/// The two forms in which sources show the look-up of one domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LookupForm {
    /// One object with `baseURI` at its top.
    #[default]
    Flat,
    /// The array `baseURIs` with one entry, as in the look-up of all domains.
    Array,
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
