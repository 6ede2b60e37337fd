//! Requests with an idempotency key, which are done once however often they are sent.
//!
//! The work runs in its own task, so that a caller that disconnects does not cancel it. A lease
//! holds the key until the work ends. Then the answer is stored for retries, or the key is freed if
//! nothing was done. If the process dies meanwhile, the lease expires and the next retry finishes
//! the work. Anything that may have reached the Cloud has a write-ahead record by then
//! (`outbox::record`).
//!
//! A key is claimed before the work ([`Claiming::BeforeWork`]). Only a text claims its own key
//! ([`Claiming::InWork`]), once its first message is known. It stores the write-ahead record with
//! the claim, which saves a write. If the text is refused before that, its key is claimed after the
//! work. So the retry of a request that was done gets the first answer, even if the retry by itself
//! would be refused.

use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::lanes::RENEWAL;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{self, Claim, HeldClaim, Intent, KeyedRequest, LEASE, Lease};
use crate::telemetry::metrics::KEYED_REQUESTS;
use crate::types::idempotency::StoredResponse;
use crate::types::idempotency::{Fingerprint, IdempotencyKey};
use crate::types::ids::{UserId, UserKey};
use crate::types::message::MessageId;

/// 3: the attempts to store an answer, a second apart.
const STORE_ATTEMPTS: u32 = 3;

/// A request with an idempotency key.
#[derive(Debug)]
pub struct KeyedWork {
    /// The key.
    pub key: IdempotencyKey,
    /// The fingerprint of the request.
    pub fingerprint: Fingerprint,
    /// The user that the answer is about, if any.
    pub user_id: Option<UserId>,
    /// The time of the claim.
    pub claiming: Claiming,
}

/// The time at which the key of a request is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// Before the work begins.
    BeforeWork,
    /// During the work, before it changes or sends anything.
    InWork,
}

/// Finished work.
#[derive(Debug)]
pub struct FinishedWork<R> {
    /// The outcome.
    pub outcome: R,
    /// The outcome for the key.
    pub key_outcome: KeyOutcome,
}

/// The outcome for a key whose work is finished.
#[derive(Debug)]
pub enum KeyOutcome {
    /// An answer that is stored for retries.
    Answered(StoredResponse),
    /// Release of the key: nothing was done, so a retry may do the work.
    Free,
    /// An unknown outcome, which a retry determines.
    Unknown,
}

/// The result of a request with a key.
#[derive(Debug)]
pub enum KeyedResult<R> {
    /// The outcome of work that was done now.
    Fresh(R),
    /// The stored answer to an earlier request.
    Repeated(StoredResponse),
}

/// The key of a request in progress, and the claim on it.
#[derive(Debug)]
pub struct KeyClaim {
    request: KeyedRequest,
    lease_id: String,
    /// The storage's decision on the claim; `None` before it.
    claim: Mutex<Option<Claim>>,
}

impl KeyClaim {
    /// Returns the storage's decision, if there is one.
    fn decided(&self) -> Option<Claim> {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.clone()
    }

    /// Returns the details of the claim if this request holds the key.
    fn held_claim(&self) -> Option<HeldClaim> {
        match self.decided() {
            Some(Claim::Ours(held_claim)) => Some(held_claim),
            _ => None,
        }
    }

    pub(crate) fn request(&self) -> &KeyedRequest {
        &self.request
    }

    /// Returns the lease on the key, counted from now.
    pub(crate) fn lease(&self, now: DateTime<Utc>) -> Lease {
        Lease {
            id: self.lease_id.clone(),
            until: now + LEASE,
        }
    }
}

/// A request with a key, and the state that settling it needs.
struct ClaimGuard {
    bridge: Bridge,
    claim: Arc<KeyClaim>,
    user: Option<UserKey>,
}

impl Bridge {
    /// Does a request's work unless it was done under its key before. The work receives the claim,
    /// to put it into its `Caller`, and runs to its end even if the caller disconnects.
    ///
    /// # Errors
    ///
    /// [`Error::KeyInUse`]; [`Error::KeyReused`]; if the storage is unavailable;
    /// [`Error::Interrupted`] if the work panics.
    pub async fn once<R, F>(
        &self,
        caller: &Caller,
        keyed: KeyedWork,
        work: impl FnOnce(Arc<KeyClaim>) -> F + Send + 'static,
    ) -> Result<KeyedResult<R>, Error>
    where
        R: Send + 'static,
        F: Future<Output = FinishedWork<R>> + Send + 'static,
    {
        let KeyedWork {
            key,
            fingerprint,
            user_id,
            claiming,
        } = keyed;
        let guard = ClaimGuard {
            bridge: self.clone(),
            claim: Arc::new(KeyClaim {
                request: KeyedRequest {
                    channel_id: caller.channel.id.clone(),
                    key: key.hash(caller.user.as_ref()),
                    fingerprint,
                },
                lease_id: self.parts.clock.uuid().to_string(),
                claim: Mutex::default(),
            }),
            user: user_id.map(|user_id| caller.key(user_id)),
        };
        let running = async move {
            if claiming == Claiming::BeforeWork
                && let Some(answer) = guard.claim().await?
            {
                return Ok(KeyedResult::Repeated(answer));
            }
            let FinishedWork {
                outcome,
                key_outcome,
            } = tokio::select! {
                done = work(Arc::clone(&guard.claim)) => done,
                never = guard.renew_lease() => match never {},
            };
            // A claim that the work could not make is not attempted again: the storage was
            // unavailable, and the answer says so.
            let is_undecided = guard.claim.decided().is_none();
            if is_undecided && matches!(key_outcome, KeyOutcome::Unknown) {
                return Ok(KeyedResult::Fresh(outcome));
            }
            if let Some(answer) = guard.claim().await? {
                return Ok(KeyedResult::Repeated(answer));
            }
            guard.settle(key_outcome).await;
            Ok(KeyedResult::Fresh(outcome))
        };
        let task = self.parts.tasks.spawn(running.instrument(Span::current()));
        task.await.map_err(|_| Error::Interrupted)?
    }

    /// Claims the key of a request, unless that was decided before. Stores `intent` with the claim.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable. [`Error::KeyInUse`] if the request must not be done; `once`
    /// then finds the exact reason.
    pub(crate) async fn claim(
        &self,
        claim: &KeyClaim,
        intent: Option<Intent>,
    ) -> Result<HeldClaim, Error> {
        let decided = self.decide(claim, intent).await;
        match decided.map_err(Error::unsettled)? {
            Claim::Ours(held_claim) => Ok(held_claim),
            Claim::Running | Claim::Answered(_) | Claim::Reused => Err(Error::KeyInUse),
        }
    }

    /// Returns the storage's decision on a claim. The storage is queried only once.
    async fn decide(&self, claim: &KeyClaim, intent: Option<Intent>) -> Result<Claim, Error> {
        if let Some(decided) = claim.decided() {
            return Ok(decided);
        }
        let clock = &self.parts.clock;
        let now = clock.now();
        let message_id = MessageId::new(clock.uuid());
        let store = &self.parts.store;
        let lease = claim.lease(now);
        let write_ahead = store.claim_key(&claim.request, message_id, &lease, intent, now);
        let decided = write_ahead.await?;
        let outcome = match &decided {
            Claim::Ours(held_claim) if held_claim.resumed => "resumed",
            Claim::Ours(_) => "fresh",
            Claim::Answered(_) => "replayed",
            Claim::Running => "in_use",
            Claim::Reused => "reused",
        };
        let channel = claim.request.channel_id.as_str();
        self.parts
            .metrics
            .count(&KEYED_REQUESTS, [channel, outcome], 1);
        if outcome == "resumed" {
            tracing::warn!("a replica died while processing a request; a retry resumes it");
        }
        let mut decision = claim.claim.lock().unwrap_or_else(PoisonError::into_inner);
        *decision = Some(decided.clone());
        Ok(decided)
    }
}

impl ClaimGuard {
    /// Claims the key, unless that was decided before. Returns the stored answer if the request was
    /// done.
    async fn claim(&self) -> Result<Option<StoredResponse>, Error> {
        match self.bridge.decide(&self.claim, None).await? {
            Claim::Ours(_) => Ok(None),
            Claim::Answered(answer) => Ok(Some(answer)),
            Claim::Running => Err(Error::KeyInUse),
            Claim::Reused => Err(Error::KeyReused),
        }
    }

    /// Returns the lease, counted from now.
    fn lease(&self) -> Lease {
        self.claim.lease(self.bridge.parts.clock.now())
    }

    /// Renews the lease until the future is dropped.
    async fn renew_lease(&self) -> Infallible {
        loop {
            sleep(RENEWAL).await;
            if self.claim.held_claim().is_none() {
                continue;
            }
            let store = &self.bridge.parts.store;
            match store
                .renew_key_lease(&self.claim.request, &self.lease())
                .await
            {
                Ok(true) => {}
                // The work is not cancelled midway, since its progress would be unknown.
                Ok(false) => {
                    tracing::warn!("the lease on an idempotency key was lost");
                    return pending().await;
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease on an idempotency key could not be renewed"
                ),
            }
        }
    }

    /// Stores the answer, or frees the key. The work is done, so a failure here does not fail it.
    async fn settle(&self, key_outcome: KeyOutcome) {
        let Some(held_claim) = self.claim.held_claim() else {
            return;
        };
        for attempt in 1..=STORE_ATTEMPTS {
            let Err(error) = self.try_to_settle(&held_claim, &key_outcome).await else {
                return;
            };
            tracing::error!(
                error = &error as &dyn std::error::Error,
                tried = attempt,
                "the outcome of a request with an idempotency key could not be stored; a retry has to determine it"
            );
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn try_to_settle(
        &self,
        held_claim: &HeldClaim,
        key_outcome: &KeyOutcome,
    ) -> Result<(), store::Error> {
        let store = &self.bridge.parts.store;
        let (request, lease) = (&self.claim.request, self.lease());
        if let KeyOutcome::Answered(answer) = key_outcome {
            // No lookup of the user is needed if the write-ahead record names them.
            let user = self.user.as_ref().filter(|_| !held_claim.is_recorded);
            let stored = store.store_answer(request, &lease, user, answer);
            if stored.await? {
                return Ok(());
            }
        }
        if matches!(key_outcome, KeyOutcome::Unknown) || held_claim.write_ahead.is_some() {
            // A message may be at the Cloud. The next retry finds out, and the lease ends now so
            // that the retry need not wait for it.
            let until = self.bridge.parts.clock.now();
            let ended_lease = Lease { until, ..lease };
            return store.renew_key_lease(request, &ended_lease).await.map(drop);
        }
        store.release_key(request, &lease).await
    }
}
