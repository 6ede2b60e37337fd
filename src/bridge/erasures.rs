//! The erasure of users, which needs no request to the Cloud, and the close of the conversations
//! that they leave open.
//!
//! One transaction removes the user and stores a pending close. The pending close has the account,
//! the conversation's id and a sealed secret. The secret holds the ConsumerJWS, the external id to
//! request a new token with, and the conversation's features. The close is attempted at once. After
//! that, every replica retries it in the background, for 24 hours. A conversation that the Cloud
//! does not know or calls closed counts as closed.
//!
//! A user who comes back meanwhile is a new user for the bridge, but the same consumer for the
//! Cloud. The Cloud lets a consumer have one conversation at a time. So the old conversation is
//! closed before a new one is opened. Until that succeeds, the new user's messages wait.
//!
//! An opening may be in progress while its user is erased. If the opening task finds the user
//! erased, it stores the pending close. In case the task dies before that, the erasure stores a
//! pending close without a conversation id. The Monitoring API then reports which conversation that
//! is.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::POLL_INTERVAL;
use super::audit;
use super::lanes::LaneWait;
use super::retry::{OUTCOME_UNKNOWN, Pause, Verdict};
use super::tokens::{Token, unseal};
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud::{self, ConsumerJws, Signal};
use crate::crypto::Keyring;
use crate::store::{
    self, Erasure, ErasureData, Lease, NewClose, PendingClose, SealedClose, UserRef,
};
use crate::telemetry::metrics::CLOSES_DROPPED;
use crate::types::audit::Action;
use crate::types::conversation::Features;
use crate::types::ids::{AccountId, ConversationId, UserId, UserKey};
use crate::types::trace::Trace;
use crate::worker::{Claimed, Pace, Source};

/// 24 h: the time for which a close is retried.
const RETRY_PERIOD: TimeDelta = TimeDelta::hours(24);

/// 4 s: the time that an erasure waits for the user's lane, to learn the outcome of an opening or a
/// send.
const LANE_WAIT: Duration = Duration::from_secs(4);

/// 5 s: the time that the caller of an erasure waits for the Cloud.
const CALLER_WAIT: Duration = Duration::from_secs(5);

/// 8 s: the time that an opening waits for the close of the former conversation. It leaves time for
/// the opening itself.
const OPENER_WAIT: Duration = Duration::from_secs(8);

/// 15 s: the time limit of a background attempt: a token, the search for the conversation, and the
/// close. A stop waits for it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// 30 s: the duration of a claim, longer than an attempt may take. If a replica dies, its close
/// waits that long.
const CLAIM: TimeDelta = TimeDelta::seconds(30);

/// 5 s: the time for which background work leaves a new close to the erasure that stored it.
const HEAD_START: TimeDelta = TimeDelta::seconds(5);

/// 8: the attempts of an erasure. It starts again if a conversation was opened or has ended
/// meanwhile.
const MAX_ATTEMPTS: u32 = 8;

/// 32: the number of closes that are attempted at once.
const CONCURRENCY: u32 = 32;

/// The background work on conversations that erased users left open.
#[derive(Debug)]
pub struct DueCloses(pub Bridge);

impl Source for DueCloses {
    type Item = PendingClose;
    type Error = Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, CONCURRENCY);
    const FAILED: &'static str = "conversations of erased users could not be looked up";

    fn is_paused(&self) -> bool {
        self.0.is_ahead()
    }

    async fn woken(&mut self) {
        self.0.closes_due.notified().await;
    }

    async fn claim(&mut self, limit: u32) -> Result<Claimed<Self::Item>, Error> {
        let parts = &self.0.parts;
        let now = parts.clock.now();
        let due = parts
            .store
            .claim_due_closes(now, now + CLAIM, now - RETRY_PERIOD, limit);
        Ok(due.await?.into())
    }

    fn handle(&self, close: PendingClose) -> impl Future<Output = ()> + Send + 'static {
        let bridge = self.0.clone();
        async move { bridge.close_due(close).await }
    }
}

/// The work that remains once a user is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remainder {
    /// No work.
    Nothing,
    /// The close of a conversation, in the background.
    Close,
}

/// The sensitive part of a pending close, as it is before it is sealed.
#[derive(Serialize, Deserialize)]
struct Secret<'a> {
    /// The ConsumerJWS; `None` if the user had none that the keys open.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Cow<'a, str>>,
    /// The consumer's external id, to request a new token with.
    consumer: Cow<'a, str>,
    /// The features in the conversation's `Client-Properties`.
    features: Cow<'a, Features>,
}

impl Bridge {
    /// Erases a user: removes everything stored about them, and closes the open conversation, now
    /// or later. Erasing an unknown user succeeds.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable. Another call continues from there.
    pub async fn erase(&self, caller: &Caller, user_id: UserId) -> Result<Remainder, Error> {
        let key = caller.key(user_id);
        let store = &self.parts.store;
        if let Some(user_state) = store.user_state(&key).await? {
            // The lease is deleted with the row.
            let lease = self.lane_for_erasure(&key, user_state.user).await?;
            let erased = self.remove_user(caller, &key, user_state.user).await;
            if let (Err(_), Some(lease)) = (&erased, lease) {
                store.release_lane(user_state.user, &lease).await?;
            }
            erased?;
        }
        self.close_former(&caller.trace, &key, CALLER_WAIT).await
    }

    /// Waits for the user's lane, so that work in progress ends first; `None` if that takes too
    /// long or the user no longer exists.
    async fn lane_for_erasure(&self, key: &UserKey, user: UserRef) -> Result<Option<Lease>, Error> {
        let mut lane_wait = LaneWait::within(LANE_WAIT);
        loop {
            if let Some(lease) = self.try_claim_lane(user).await? {
                return Ok(Some(lease));
            }
            let user_state = self.parts.store.user_state(key).await?;
            let exists = user_state.is_some_and(|user_state| user_state.user == user);
            if !exists || lane_wait.wait().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Removes a user and stores the pending closes.
    async fn remove_user(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: UserRef,
    ) -> Result<(), Error> {
        let store = &self.parts.store;
        for _ in 0..MAX_ATTEMPTS {
            let Some(erasing) = store.erasure_data(user).await? else {
                return Ok(());
            };
            let now = self.parts.clock.now();
            let closes = self.pending_closes(key, &erasing, now)?;
            let action = Action::EraseUser {
                by_own_token: caller.user.is_some(),
            };
            let entry = self.entry(caller, now, action);
            match store.delete_user(&erasing, &closes, now, &entry).await? {
                Erasure::Done => {
                    audit::log(&entry);
                    return Ok(());
                }
                Erasure::AlreadyErased => return Ok(()),
                Erasure::Changed => {}
            }
        }
        Err(store::Error::Contended.into())
    }

    /// Returns the closes that the erasure of a user leaves.
    fn pending_closes(
        &self,
        key: &UserKey,
        erasing: &ErasureData,
        now: DateTime<Utc>,
    ) -> Result<Vec<NewClose>, Error> {
        let keyring = &self.parts.keyring;
        let token = erasing.token.as_ref();
        let token = token.and_then(|stored| unseal(keyring, key, stored));
        let after_head_start = now + HEAD_START;
        let mut closes = Vec::new();
        if let Some(open) = &erasing.open {
            closes.push(NewClose {
                account_id: key.account_id.clone(),
                conversation_id: Some(open.id.clone()),
                sealed: seal(keyring, key, token.as_ref(), &open.features)?,
                due_at: after_head_start,
            });
        }
        let in_progress_until = erasing.opening_until.filter(|until| *until > now);
        let opening = erasing.opening.as_ref();
        let opening =
            opening.filter(|opening| in_progress_until.is_some() || opening.outcome_matters(now));
        if let Some(opening) = opening {
            closes.push(NewClose {
                account_id: key.account_id.clone(),
                conversation_id: None,
                sealed: seal(keyring, key, token.as_ref(), &opening.features)?,
                due_at: in_progress_until.unwrap_or(now),
            });
        }
        Ok(closes)
    }

    /// Stores the pending close of a conversation that was opened while its user was erased.
    pub(super) async fn store_pending_close(
        &self,
        key: &UserKey,
        token: &Token,
        conversation_id: &ConversationId,
        features: &Features,
    ) -> Result<(), Error> {
        let now = self.parts.clock.now();
        let close = NewClose {
            account_id: key.account_id.clone(),
            conversation_id: Some(conversation_id.clone()),
            sealed: seal(&self.parts.keyring, key, Some(&token.token), features)?,
            due_at: now,
        };
        self.parts.store.add_close(&close, now).await?;
        self.closes_due.notify_one();
        tracing::info!(
            account.id = %key.account_id,
            conversation.id = %conversation_id,
            "a conversation was opened while its user was erased; it is being closed"
        );
        Ok(())
    }

    /// Makes sure that an erased user has no open conversation at the Cloud, before one is opened
    /// for the same consumer.
    ///
    /// # Errors
    ///
    /// [`Error::OpeningPending`] if one is still open.
    pub(super) async fn finish_erasure(&self, trace: &Trace, key: &UserKey) -> Result<(), Error> {
        match self.close_former(trace, key, OPENER_WAIT).await? {
            Remainder::Nothing => Ok(()),
            Remainder::Close => Err(Error::OpeningPending { cause: None }),
        }
    }

    /// Attempts the closes that this user's erasure left, even if they are not due.
    async fn close_former(
        &self,
        trace: &Trace,
        key: &UserKey,
        limit: Duration,
    ) -> Result<Remainder, Error> {
        let store = &self.parts.store;
        let owners = self.parts.keyring.pseudonyms(&owner(key));
        let mut remainder = Remainder::Nothing;
        for close in store.closes_of(&owners).await? {
            let now = self.parts.clock.now();
            // This close is for an opening that may be in progress. The opening has to end first.
            if close.conversation_id.is_none() && close.attempts == 0 && close.due_at > now {
                remainder = Remainder::Close;
                continue;
            }
            let Some(mut close) = store.claim_close(close.id, now + CLAIM).await? else {
                continue;
            };
            let Some(error) = self.attempt_close(trace, &mut close, limit).await? else {
                continue;
            };
            // Without the Monitoring API for the account, the conversation can never be found, and
            // no caller may wait for it.
            let is_unknowable = matches!(error, Error::Cloud(cloud::Error::Blocked { .. }));
            if close.conversation_id.is_none() && is_unknowable {
                store.finish_close(&close).await?;
            } else {
                remainder = Remainder::Close;
            }
        }
        Ok(remainder)
    }

    /// Attempts a claimed close and settles it. Returns the error if the close is postponed.
    async fn attempt_close(
        &self,
        trace: &Trace,
        close: &mut PendingClose,
        limit: Duration,
    ) -> Result<Option<Error>, Error> {
        let store = &self.parts.store;
        let closing = Box::pin(self.close_at_cloud(trace, close));
        let closed = timeout(limit, closing).await;
        let error = match closed.unwrap_or(Err(Error::OutOfTime { is_sent: false })) {
            Ok(()) => {
                store.finish_close(close).await?;
                return Ok(None);
            }
            Err(error) => error,
        };
        let pause = match Verdict::of_stored(&error, false) {
            Verdict::Retry(pause) => pause,
            // It is retried all the same until its 24 hours are over.
            Verdict::Final | Verdict::Unknown(_) => Pause::because(OUTCOME_UNKNOWN),
        };
        let due_at = self.parts.clock.now() + pause.after(close.attempts);
        store.postpone_close(close, due_at, pause.why).await?;
        tracing::info!(
            account.id = %close.account_id,
            conversation.id = close.conversation_id.as_ref().map(tracing::field::display),
            why = pause.why,
            error = &error as &dyn std::error::Error,
            "the conversation of an erased user could not be closed; the close is retried"
        );
        Ok(Some(error))
    }

    /// Closes a conversation of an erased user, once its id is known.
    async fn close_at_cloud(&self, trace: &Trace, close: &mut PendingClose) -> Result<(), Error> {
        let opened = open(&self.parts.keyring, &close.account_id, &close.sealed)?;
        let secret = read(&opened)?;
        if close.conversation_id.is_none() {
            close.conversation_id = self.find_opened(trace, close, &secret.consumer).await?;
        }
        let Some(id) = &close.conversation_id else {
            return Ok(());
        };
        let token = secret.token.as_ref();
        let token = token.map(|token| Zeroizing::new(token.as_bytes().to_vec()));
        let former = ErasedConversation {
            account_id: &close.account_id,
            consumer: &secret.consumer,
            id,
            features: &secret.features,
        };
        self.close_everything(trace, &former, token.and_then(ConsumerJws::new))
            .await
    }

    /// Finds the conversation that came of an opening of unknown outcome; `None` if there is none,
    /// if it belongs to a known user, or if the claim was lost.
    async fn find_opened(
        &self,
        trace: &Trace,
        close: &PendingClose,
        consumer: &str,
    ) -> Result<Option<ConversationId>, Error> {
        let cloud = &self.parts.cloud;
        let found = cloud.find_open_conversation(&close.account_id, consumer, trace);
        let Some(id) = found.await? else {
            return Ok(None);
        };
        let now = self.parts.clock.now();
        let is_claimed = self
            .parts
            .store
            .set_close_conversation(close, &id, now)
            .await?;
        Ok(is_claimed.then_some(id))
    }

    /// Closes a conversation of an erased consumer that is still open, although the Cloud was asked
    /// to close it.
    pub(super) async fn close_again(
        &self,
        trace: &Trace,
        key: &UserKey,
        id: &ConversationId,
        token: &Token,
    ) -> Result<(), Error> {
        let former = ErasedConversation {
            account_id: &key.account_id,
            consumer: &key.external_id(),
            id,
            features: &Features::default(),
        };
        self.close_everything(trace, &former, Some(token.token.clone()))
            .await
    }

    /// Closes a conversation, including a survey in it. Of all refusals by the Cloud, only that of
    /// a token leads to another attempt.
    async fn close_everything(
        &self,
        trace: &Trace,
        former: &ErasedConversation<'_>,
        token: Option<ConsumerJws>,
    ) -> Result<(), Error> {
        let cloud = &self.parts.cloud;
        let account = former.account_id;
        let (mut stored, mut is_fresh) = (token, false);
        loop {
            let token = if let Some(token) = stored.take() {
                token
            } else {
                is_fresh = true;
                let requested = cloud.consumer_token(account, former.consumer, trace);
                requested.await?.token
            };
            let conversation = cloud::Conversation {
                consumer: cloud::Consumer {
                    account,
                    token: &token,
                },
                id: former.id,
                dialog_id: former.id.as_str(),
                features: former.features,
                time_limit: None,
            };
            let sent = cloud
                .signal(&conversation, Signal::CloseEverything, trace)
                .await;
            let error = match sent {
                Ok(()) | Err(cloud::Error::ConversationClosed) => return Ok(()),
                Err(error) if error.may_be_consumer_token() && !is_fresh => continue,
                Err(error) => error.after_token_renewal(),
            };
            if !matches!(error, cloud::Error::Refused { .. }) {
                return Err(error.into());
            }
            tracing::warn!(
                account.id = %account,
                conversation.id = %former.id,
                error = &error as &dyn std::error::Error,
                "a conversation of an erased user could not be closed; it is left to the Cloud"
            );
            return Ok(());
        }
    }

    async fn close_due(&self, mut close: PendingClose) {
        let trace = Trace::continue_from(None, None, self.parts.clock.uuid());
        let attempted = self
            .attempt_close(&trace, &mut close, ATTEMPT_TIMEOUT)
            .await;
        if let Err(error) = attempted {
            tracing::warn!(
                account.id = %close.account_id,
                error = &error as &dyn std::error::Error,
                "the outcome of closing an erased user's conversation could not be stored; the close is retried"
            );
        }
    }

    /// Gives up closes that were retried for 24 hours, at most `limit`. Returns their number.
    pub(super) async fn give_up_closes(
        &self,
        now: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, Error> {
        let given_up = self
            .parts
            .store
            .give_up_closes(now - RETRY_PERIOD, limit)
            .await?;
        for (account, conversation_id) in &given_up {
            self.parts
                .metrics
                .count(&CLOSES_DROPPED, [account.as_str()], 1);
            tracing::warn!(
                account.id = %account,
                conversation.id = conversation_id.as_ref().map(tracing::field::display),
                "the conversation of an erased user could not be closed for 24 hours; it is left to the Cloud"
            );
        }
        Ok(given_up.len() as u64)
    }
}

/// A conversation of an erased consumer.
struct ErasedConversation<'a> {
    account_id: &'a AccountId,
    /// The consumer's external id.
    consumer: &'a str,
    id: &'a ConversationId,
    features: &'a Features,
}

/// Returns the consumer as the Cloud knows it. The keyed hash of this value finds a user's pending
/// closes.
fn owner(key: &UserKey) -> Vec<u8> {
    owner_of(&key.account_id, &key.external_id())
}

fn owner_of(account_id: &AccountId, external_id: &str) -> Vec<u8> {
    format!("{account_id}\0{external_id}").into_bytes()
}

/// Returns the context that binds a sealed secret to its column, account and user.
fn sealing_context(account_id: &AccountId, owner: &str) -> Vec<u8> {
    format!("pending_closes.secret\0{account_id}\0{owner}").into_bytes()
}

fn seal(
    keyring: &Keyring,
    key: &UserKey,
    token: Option<&ConsumerJws>,
    features: &Features,
) -> Result<SealedClose, Error> {
    let token = token.and_then(|token| str::from_utf8(token.expose()).ok());
    let secret = Secret {
        token: token.map(Cow::Borrowed),
        consumer: key.external_id().into(),
        features: Cow::Borrowed(features),
    };
    seal_secret(keyring, &key.account_id, &secret)
}

#[expect(
    clippy::expect_used,
    reason = "the members are strings and a list of strings"
)]
fn seal_secret(
    keyring: &Keyring,
    account_id: &AccountId,
    secret: &Secret<'_>,
) -> Result<SealedClose, Error> {
    let owner = keyring.pseudonym(&owner_of(account_id, &secret.consumer));
    let text = Zeroizing::new(serde_json::to_vec(secret).expect("a secret is JSON"));
    Ok(SealedClose {
        secret: keyring.seal(&text, &sealing_context(account_id, &owner))?,
        owner,
        key_id: keyring.sealing_key_id().to_owned(),
    })
}

fn open(
    keyring: &Keyring,
    account_id: &AccountId,
    sealed: &SealedClose,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    Ok(keyring.open(&sealed.secret, &sealing_context(account_id, &sealed.owner))?)
}

fn read(opened: &[u8]) -> Result<Secret<'_>, Error> {
    let unreadable = |_| store::Error::Unreadable {
        what: "secret of a close",
    };
    Ok(serde_json::from_slice(opened).map_err(unreadable)?)
}

/// True if one of the keys opens the secret.
pub(super) fn opens(keyring: &Keyring, close: &PendingClose) -> bool {
    open(keyring, &close.account_id, &close.sealed).is_ok()
}

/// Re-encrypts a secret with the first key; `None` if no key opens it or it cannot be read.
///
/// # Errors
///
/// [`Error::Seal`] if it cannot be sealed.
pub(super) fn reseal(
    keyring: &Keyring,
    close: &PendingClose,
) -> Result<Option<SealedClose>, Error> {
    let account = &close.account_id;
    let Ok(opened) = open(keyring, account, &close.sealed) else {
        return Ok(None);
    };
    let Ok(secret) = read(&opened) else {
        return Ok(None);
    };
    seal_secret(keyring, account, &secret).map(Some)
}
