//! Taking a notification: whose it is, what is in it, and that it is stored before it is answered.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret as _, SecretString};

use super::inbox::{Inbox, Read};
use super::signature::verify;
use super::wire::{Change, Content, Notification, ParseError};
use crate::store::{self, Arrival, Turn};
use crate::telemetry::metrics::{Metrics, WEBHOOK_CHANGES};
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// Why a notification was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Account, client id and signature do not belong together; which of them is wrong is not told.
    #[error("the account, the client id and the signature of the body do not belong together")]
    Unsigned,
    /// It is signed, and no notification.
    #[error("the body is no notification: {0}")]
    Unreadable(ParseError),
    /// As many as may wait are waiting.
    #[error("too many notifications wait to be stored")]
    Full,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The storage is away.
    #[error(transparent)]
    Store(Arc<store::Error>),
}

/// The app installation of an account, whose secret signs its notifications.
#[derive(Debug)]
pub struct Installation {
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: SecretString,
}

/// What a request says of its origin.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The account that the path names.
    pub account_id: &'a str,
    /// `x-liveperson-account-id`.
    pub account_header: Option<&'a str>,
    /// `x-liveperson-client-id`.
    pub client_id: Option<&'a str>,
    /// `x-liveperson-signature`.
    pub signature: Option<&'a str>,
}

/// Takes notifications of the configured accounts; clones share it.
#[derive(Debug, Clone)]
pub struct Receiver {
    inbox: Inbox,
    metrics: Metrics,
    installations: Arc<HashMap<AccountId, Installation>>,
}

impl Receiver {
    /// A receiver for these accounts.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        metrics: Metrics,
        installations: HashMap<AccountId, Installation>,
    ) -> Self {
        Self {
            inbox,
            metrics,
            installations: Arc::new(installations),
        }
    }

    /// Takes a notification; returns once all that is in it is stored.
    ///
    /// # Errors
    ///
    /// See [`Error`]; nothing is stored then.
    pub async fn receive(
        &self,
        origin: Origin<'_>,
        body: &[u8],
        trace: &Trace,
    ) -> Result<(), Error> {
        let account_id = self.check(origin, body).ok_or(Error::Unsigned)?;
        let notification = Notification::parse(body).map_err(Error::Unreadable)?;
        self.count_unknown(&account_id, &notification.changes);
        let changes = notification.changes.into_iter();
        let read: Vec<_> = changes
            .filter_map(|change| read(&account_id, trace, change))
            .collect();
        if read.is_empty() {
            return Ok(());
        }
        self.inbox.take(read).await
    }

    fn count_unknown(&self, account_id: &AccountId, changes: &[Change]) {
        let unknown = |change: &&Change| matches!(change.content(), Content::Unknown(_));
        let count = u64::try_from(changes.iter().filter(unknown).count()).unwrap_or_default();
        if count > 0 {
            let labels = [account_id.as_str(), "not_understood"];
            self.metrics.count(&WEBHOOK_CHANGES, labels, count);
        }
    }

    /// The account that a request is truly about.
    fn check(&self, origin: Origin<'_>, body: &[u8]) -> Option<AccountId> {
        let account_id: AccountId = origin.account_id.parse().ok()?;
        let installation = self.installations.get(&account_id)?;
        let names_match = origin.account_header? == account_id.as_str()
            && origin.client_id? == installation.client_id;
        let secret = installation.client_secret.expose_secret().as_bytes();
        let signed = verify(origin.signature?, body, secret).is_ok();
        (names_match && signed).then_some(account_id)
    }
}

/// What the store has to know of a change; nothing where it cannot be about any conversation.
fn read(account_id: &AccountId, trace: &Trace, change: Change) -> Option<Read> {
    if let Content::Unknown(why) = change.content() {
        tracing::info!(account.id = %account_id, why, "a change of a notification was not understood");
        return None;
    }
    let place = match (change.conversation_id(), change.dialog_id()) {
        (Some(id), _) => id.as_str(),
        (None, Some(id)) => id.as_str(),
        (None, None) => return None,
    };
    let open = match change.content() {
        Content::Conversation(conversation) => Some(!conversation.ended),
        Content::Message(_) | Content::Unknown(_) => None,
    };
    let turn = match change.content() {
        Content::Message(message) => message.dialog().zip(message.sequence),
        Content::Conversation(_) | Content::Unknown(_) => None,
    };
    let arrival = Arrival {
        account_id: account_id.clone(),
        key: change
            .dedupe_key(account_id)
            .map(|key| URL_SAFE_NO_PAD.encode(key)),
        place: place.to_owned(),
        consumer_id: change.consumer_id().map(str::to_owned),
        turn: turn.map(|(dialog_id, sequence)| Turn {
            dialog_id: dialog_id.to_owned(),
            sequence: sequence.into(),
        }),
        open,
        kind: change.kind().as_str(),
        body: change.json().to_owned(),
        parent: Some(trace.parent()),
    };
    Some(Read { arrival, change })
}
