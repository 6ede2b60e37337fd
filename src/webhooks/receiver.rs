//! The receiver of notifications: it authenticates them, parses them, and stores them before they
//! are answered.
//!
//! A notification with a valid signature is never refused, since the Cloud would repeat it and hold
//! back all later ones. It is stored, or skipped if it cannot be used.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::task::spawn_blocking;
use tokio_util::bytes::Bytes;
use tracing::Span;

use super::error::Error;
use super::inbox::{Inbox, IncomingChange};
use super::rejections::Rejections;
use super::signature::Signature;
use super::wire::{Change, Content, Notification, ParseError};
use crate::clock::SharedClock;
use crate::store::{Arrival, DialogPosition};
use crate::telemetry::metrics::{Metrics, WEBHOOK_CHANGES};
use crate::types::ids::{AccountId, DialogId};
use crate::types::rejection::{OLDEST_NOTIFICATION, Rejection};
use crate::types::trace::Trace;

/// 5 minutes: the age from which a typing notification is dropped, if the Cloud says when it was
/// sent. Typing matters for seconds; the other minutes allow for clocks that differ.
const OLDEST_CHAT_STATE: TimeDelta = TimeDelta::minutes(5);

/// 1,000: the limit of changes that are queued at once. Many more would take too long for a
/// transaction.
const MAX_CHANGES_PER_SUBMIT: usize = 1000;

/// 64 KiB: a larger body is parsed on a thread for blocking work. A body of 4 MiB takes tenths of a
/// second, for which the other requests on the same thread of the runtime would wait.
const LARGE_BODY: usize = 64 * 1024;

/// The app installation of an account, whose secret signs its notifications.
#[derive(Debug)]
pub struct Installation {
    /// The app's client id.
    pub client_id: String,
    /// The app's client secret.
    pub client_secret: SecretString,
}

/// The origin that a request claims.
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

/// A notification with a valid head: its account, and the signature that its body must match.
#[derive(Debug)]
pub struct CheckedHead<'a> {
    account_id: AccountId,
    installation: &'a Installation,
    signature: Signature,
}

impl CheckedHead<'_> {
    /// The account in the path.
    #[must_use]
    pub fn account_id(&self) -> &AccountId {
        &self.account_id
    }
}

/// A notification with a valid signature.
#[derive(Debug)]
pub struct Signed<'a> {
    account_id: AccountId,
    body: &'a Bytes,
    form: &'static str,
}

/// The receiver of notifications for the configured accounts. Clones share one state.
#[derive(Debug, Clone)]
pub struct Receiver {
    inbox: Inbox,
    metrics: Metrics,
    clock: SharedClock,
    rejections: Rejections,
    installations: Arc<HashMap<AccountId, Installation>>,
}

impl Receiver {
    /// Creates a receiver for these accounts. It records rejected notifications in `rejections`.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        metrics: Metrics,
        clock: SharedClock,
        rejections: Rejections,
        installations: HashMap<AccountId, Installation>,
    ) -> Self {
        Self {
            inbox,
            metrics,
            clock,
            rejections,
            installations: Arc::new(installations),
        }
    }

    /// Checks everything that comes before the body: the account in the path, both id headers, and
    /// the form of the signature.
    ///
    /// # Errors
    ///
    /// [`Error::Unsigned`].
    pub fn check_head(&self, origin: Origin<'_>) -> Result<CheckedHead<'_>, Error> {
        self.validate_head(origin).map_err(|reason| {
            self.record_refusal(origin.account_id, reason);
            Error::Unsigned
        })
    }

    /// Checks the signature of a body.
    ///
    /// # Errors
    ///
    /// [`Error::Unsigned`].
    pub fn verify<'a>(&self, head: CheckedHead<'_>, body: &'a Bytes) -> Result<Signed<'a>, Error> {
        let CheckedHead {
            account_id,
            installation,
            signature,
        } = head;
        let secret = installation.client_secret.expose_secret().as_bytes();
        if !signature.matches(body, secret) {
            self.record_refusal(account_id.as_str(), Rejection::SignatureWrong);
            return Err(Error::Unsigned);
        }
        Ok(Signed {
            account_id,
            body,
            form: signature.form,
        })
    }

    /// Accepts a notification, and returns once all its usable changes are stored.
    ///
    /// # Errors
    ///
    /// See [`Error`]. After an error, some changes of a large notification may already be stored. A
    /// repeat delivers the others.
    pub async fn receive(&self, signed: Signed<'_>, trace: &Trace) -> Result<(), Error> {
        let mut changes = self.parse(&signed.account_id, signed.body, trace).await?;
        for change in &mut changes {
            change.arrival.signed = Some(signed.form);
        }
        while !changes.is_empty() {
            let remaining = changes.split_off(changes.len().min(MAX_CHANGES_PER_SUBMIT));
            self.inbox.submit(changes).await?;
            changes = remaining;
        }
        Ok(())
    }

    /// Returns the changes of a signed body that can be stored, parsed without blocking other
    /// requests.
    async fn parse(
        &self,
        account_id: &AccountId,
        body: &Bytes,
        trace: &Trace,
    ) -> Result<Vec<IncomingChange>, Error> {
        if body.len() <= LARGE_BODY {
            return Ok(self.usable(account_id, body, trace));
        }
        let (receiver, account_id, body, trace) = (
            self.clone(),
            account_id.clone(),
            body.clone(),
            trace.clone(),
        );
        let span = Span::current();
        let parsing =
            spawn_blocking(move || span.in_scope(|| receiver.usable(&account_id, &body, &trace)));
        match parsing.await {
            Ok(changes) => Ok(changes),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => Err(Error::Stopping),
            },
        }
    }

    /// Records that a body was refused before its signature could be checked.
    pub fn record_refused_body(&self, account_id: &str, reason: Rejection) {
        self.record_refusal(account_id, reason);
    }

    /// Records that a notification was refused, for the account in its path.
    fn record_refusal(&self, account_id: &str, reason: Rejection) {
        let named = account_id.parse().ok();
        let configured = named
            .as_ref()
            .filter(|id| self.installations.contains_key(id));
        self.rejections
            .record_refusal(configured, named.as_ref(), reason);
    }

    /// Returns the checked head, or the first error in it.
    fn validate_head(&self, origin: Origin<'_>) -> Result<CheckedHead<'_>, Rejection> {
        let unknown = Rejection::UnknownAccount;
        let account_id: AccountId = origin.account_id.parse().map_err(|_| unknown)?;
        let installation = self.installations.get(&account_id).ok_or(unknown)?;
        if origin.account_header != Some(account_id.as_str()) {
            return Err(Rejection::AccountHeader);
        }
        if origin.client_id != Some(&*installation.client_id) {
            return Err(Rejection::ClientId);
        }
        let signature = origin.signature.ok_or(Rejection::SignatureMissing)?;
        let signature = Signature::parse(signature).ok_or(Rejection::SignatureMalformed)?;
        Ok(CheckedHead {
            account_id,
            installation,
            signature,
        })
    }

    /// Returns the changes of a signed body that can be stored. The others are counted and logged
    /// once.
    fn usable(&self, account_id: &AccountId, body: &[u8], trace: &Trace) -> Vec<IncomingChange> {
        let notification = match Notification::parse(body) {
            Ok(notification) => notification,
            Err(error) => {
                let reason = match error {
                    ParseError::NotJson { .. } => Rejection::NotJson,
                    ParseError::NoChanges => Rejection::NoChanges,
                };
                tracing::warn!(
                    account.id = %account_id,
                    reason = reason.as_str(),
                    size_bytes = body.len(),
                    %error,
                    "a signed notification could not be used; it was answered with 200"
                );
                self.rejections.record_unusable(account_id, reason);
                return Vec::new();
            }
        };
        let (now, sent_at) = (self.clock.now(), notification.sent_at);
        let mut usable = Vec::new();
        let mut too_old = 0;
        let mut unknown = notification.surplus;
        let mut why = (unknown > 0).then_some("the body has more changes than the limit");
        for change in notification.changes {
            if is_too_old(&change, sent_at, now) {
                too_old += 1;
                continue;
            }
            match incoming(account_id, trace, change) {
                Ok(change) => usable.push(change),
                Err(reason) => {
                    unknown += 1;
                    why.get_or_insert(reason);
                }
            }
        }
        for (count, reason, why) in [
            (unknown, Rejection::NotUnderstood, why.unwrap_or_default()),
            (
                too_old,
                Rejection::TooOld,
                "its duplicates are no longer recognized",
            ),
        ] {
            let Some(changes) = u64::try_from(count).ok().filter(|count| *count > 0) else {
                continue;
            };
            tracing::info!(
                account.id = %account_id,
                reason = reason.as_str(),
                changes,
                why,
                "changes of a signed notification were ignored"
            );
            self.metrics.count(
                &WEBHOOK_CHANGES,
                [account_id.as_str(), reason.as_str()],
                changes,
            );
            self.rejections.record_unusable(account_id, reason);
        }
        usable
    }
}

/// True if a change is older than the time for which duplicates are recognized. It may repeat one
/// that was stored long ago.
///
/// Compares the Cloud's clock with ours. The age of a conversation does not matter, only the age of
/// the change.
fn is_too_old(change: &Change, sent_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let oldest = if change.is_chat_state() {
        OLDEST_CHAT_STATE
    } else {
        OLDEST_NOTIFICATION
    };
    let latest = change.latest_time().or(sent_at);
    latest.is_some_and(|at| now - at > oldest)
}

/// Builds the data for the store. The error is the reason why a change cannot be stored.
fn incoming(
    account_id: &AccountId,
    trace: &Trace,
    change: Change,
) -> Result<IncomingChange, &'static str> {
    if let Content::Unknown(why) = change.content() {
        return Err(why);
    }
    let subject = match (change.conversation_id(), change.dialog_id()) {
        (Some(id), _) => id.as_str(),
        (None, Some(id)) => id.as_str(),
        (None, None) => return Err("the change has no conversation"),
    };
    let open = match change.content() {
        Content::Conversation(conversation) => Some(!conversation.ended),
        Content::Message(_) | Content::Unknown(_) => None,
    };
    let position = match change.content() {
        Content::Message(message) => message.dialog().zip(message.sequence),
        Content::Conversation(_) | Content::Unknown(_) => None,
    };
    // A user does not write in a side dialog.
    let named_dialog = change
        .dialog_id()
        .map(DialogId::as_str)
        .filter(|dialog| *dialog != subject && change.consumer_id().is_none());
    let arrival = Arrival {
        account_id: account_id.clone(),
        key: change
            .dedupe_key(account_id)
            .map(|key| URL_SAFE_NO_PAD.encode(key)),
        subject: subject.to_owned(),
        consumer_id: change.consumer_id().map(str::to_owned),
        named_dialog: named_dialog.map(str::to_owned),
        position: position.map(|(dialog_id, sequence)| DialogPosition {
            dialog_id: dialog_id.to_owned(),
            sequence: sequence.into(),
        }),
        open,
        kind: change.kind().as_str(),
        body: change.json().to_owned(),
        parent: Some(trace.parent()),
        // The same for all changes of a notification, so the caller sets it.
        signed: None,
    };
    Ok(IncomingChange { arrival, change })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread::{self, ThreadId};

    use uuid::Uuid;

    use super::*;
    use crate::clock::Clock;

    /// A clock that records the threads that read it.
    #[derive(Debug, Default)]
    struct Threads(Mutex<Vec<ThreadId>>);

    impl Clock for Threads {
        fn now_ms(&self) -> i64 {
            self.0.lock().unwrap().push(thread::current().id());
            0
        }
    }

    #[tokio::test]
    async fn a_large_notification_is_read_off_the_runtime_threads() {
        let threads = Arc::new(Threads::default());
        let (metrics, clock) = (Metrics::default(), Arc::clone(&threads) as SharedClock);
        let (inbox, _queue) = Inbox::channel();
        let rejections = Rejections::new(metrics.clone(), Arc::clone(&clock));
        let receiver = Receiver::new(inbox, metrics, clock, rejections, HashMap::new());
        let account = "12345678".parse().unwrap();
        let trace = Trace::continue_from(None, None, Uuid::nil());

        for (changes, is_here) in [(10, true), (350_000, false)] {
            let list = vec!["{}"; changes].join(",");
            let body = Bytes::from(format!("{{\"body\":{{\"changes\":[{list}]}}}}"));

            let parsed = receiver.parse(&account, &body, &trace).await.unwrap();

            assert!(parsed.is_empty());
            let mut ids = threads.0.lock().unwrap();
            let all_here = ids.iter().all(|id| *id == thread::current().id());
            assert_eq!((ids.is_empty(), all_here), (false, is_here), "{changes}");
            ids.clear();
        }
    }
}
