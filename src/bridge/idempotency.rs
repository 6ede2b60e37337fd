//! Requests that bear a key: done once, however often they are sent.
//!
//! The work is done in a task of its own, so that a caller who hangs up takes nothing with it, and the key is held by a lease for
//! as long as that takes. Then the answer is kept for the repeats, or the key is free again where nothing was done. When the
//! process dies in the middle, the lease runs out, and the next repeat finishes the work: what may have reached the Cloud was
//! recorded before (`outbox::record`).
//!
//! A key is claimed before the work ([`Claiming::BeforeWork`]). Only a text claims its own ([`Claiming::InWork`]), once it is known
//! what of it goes to the Cloud, and records that with the claim, which saves a write. If it never comes to that, because the text
//! is refused, the key is claimed after the work: the repeat of a request that was done gets the first answer, whatever else could
//! be said of the repeat.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::lanes::RENEWAL;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{self, Claim, Holding, Intent, KeyedRequest, LEASE, Lease};
use crate::telemetry::metrics::KEYED_REQUESTS;
use crate::types::idempotency::Answer;
use crate::types::idempotency::{Fingerprint, IdempotencyKey};
use crate::types::ids::{UserId, UserKey};
use crate::types::message::MessageId;

/// How often it is tried to keep an answer, a second apart.
const TRIES: u32 = 3;

/// What a key is to stand for.
#[derive(Debug)]
pub struct Keyed {
    /// The key.
    pub key: IdempotencyKey,
    /// What is asked for.
    pub fingerprint: Fingerprint,
    /// Whom the answer is about.
    pub user_id: Option<UserId>,
    /// The time of the claim.
    pub claiming: Claiming,
}

/// The time at which the key of a request is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claiming {
    /// Before its work begins.
    BeforeWork,
    /// By its work, before that changes or sends anything.
    InWork,
}

/// Work that was done.
#[derive(Debug)]
pub struct Done<R> {
    /// Its outcome.
    pub outcome: R,
    /// What becomes of the key.
    pub fate: KeyFate,
}

/// What becomes of a key whose work is done.
#[derive(Debug)]
pub enum KeyFate {
    /// It stands for this answer.
    Answered(Answer),
    /// It is free: nothing was done, so that a repeat may do it.
    Free,
    /// A repeat is to find out what became of the request.
    Open,
}

/// What became of a request with a key.
#[derive(Debug)]
pub enum Once<R> {
    /// It was done now.
    Fresh(R),
    /// It had been done.
    Repeated(Answer),
}

/// The key of a request that is worked on, and the claim on it.
#[derive(Debug)]
pub struct KeyClaim {
    request: KeyedRequest,
    lease_id: String,
    /// The claim, once the storage has decided on it.
    claim: Mutex<Option<Claim>>,
}

impl KeyClaim {
    /// The claim, if it was decided on.
    fn decided(&self) -> Option<Claim> {
        let claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        claim.clone()
    }

    /// The request, if it is this one's to do.
    fn holding(&self) -> Option<Holding> {
        match self.decided() {
            Some(Claim::Ours(holding)) => Some(holding),
            _ => None,
        }
    }

    pub(crate) fn request(&self) -> &KeyedRequest {
        &self.request
    }

    /// The lease on the key, from now on.
    pub(crate) fn lease(&self, now: DateTime<Utc>) -> Lease {
        Lease {
            id: self.lease_id.clone(),
            until: now + LEASE,
        }
    }
}

/// A request with a key, and how to settle it.
struct ClaimGuard {
    bridge: Bridge,
    claim: Arc<KeyClaim>,
    user: Option<UserKey>,
}

impl Bridge {
    /// Does a request's work unless that has been done under its key. The work is given the key, to be held by its caller,
    /// and goes on to its end although who asked goes away.
    ///
    /// # Errors
    ///
    /// [`Error::KeyInUse`]; [`Error::KeyReused`]; when the storage is away; [`Error::Interrupted`] when the work panics.
    pub async fn once<R, F>(
        &self,
        caller: &Caller,
        keyed: Keyed,
        work: impl FnOnce(Arc<KeyClaim>) -> F + Send + 'static,
    ) -> Result<Once<R>, Error>
    where
        R: Send + 'static,
        F: Future<Output = Done<R>> + Send + 'static,
    {
        let Keyed {
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
        let whole = async move {
            if claiming == Claiming::BeforeWork
                && let Some(answer) = guard.claim().await?
            {
                return Ok(Once::Repeated(answer));
            }
            let Done { outcome, fate } = tokio::select! {
                done = work(Arc::clone(&guard.claim)) => done,
                never = guard.hold() => match never {},
            };
            // A claim that the work could not make is not tried again: the storage was away, and the answer says so.
            let is_undecided = guard.claim.decided().is_none();
            if is_undecided && matches!(fate, KeyFate::Open) {
                return Ok(Once::Fresh(outcome));
            }
            if let Some(answer) = guard.claim().await? {
                return Ok(Once::Repeated(answer));
            }
            guard.settle(fate).await;
            Ok(Once::Fresh(outcome))
        };
        let task = self.parts.tasks.spawn(whole.instrument(Span::current()));
        task.await.map_err(|_| Error::Interrupted)?
    }

    /// Claims the key of a request, unless that was done; `intent` is recorded with the claim.
    ///
    /// # Errors
    ///
    /// When the storage is away; [`Error::KeyInUse`] where the request is not to be done, and then `once` says why.
    pub(crate) async fn claim(
        &self,
        claim: &KeyClaim,
        intent: Option<Intent>,
    ) -> Result<Holding, Error> {
        let decided = self.decide(claim, intent).await;
        match decided.map_err(Error::unsettled)? {
            Claim::Ours(holding) => Ok(holding),
            Claim::Running | Claim::Answered(_) | Claim::Reused => Err(Error::KeyInUse),
        }
    }

    /// The storage's decision on a claim, which is asked for once.
    async fn decide(&self, claim: &KeyClaim, intent: Option<Intent>) -> Result<Claim, Error> {
        if let Some(decided) = claim.decided() {
            return Ok(decided);
        }
        let clock = &self.parts.clock;
        let now = clock.now();
        let message_id = MessageId::new(clock.uuid());
        let store = &self.parts.store;
        let lease = claim.lease(now);
        let begun = store.begin_keyed(&claim.request, message_id, &lease, intent, now);
        let decided = begun.await?;
        let outcome = match &decided {
            Claim::Ours(holding) if holding.resumed => "resumed",
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
            tracing::warn!("a request whose replica died over it is done by its repeat");
        }
        let mut known = claim.claim.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(decided.clone());
        Ok(decided)
    }
}

impl ClaimGuard {
    /// Claims the key, unless that was done; returns the answer that its request was given before.
    async fn claim(&self) -> Result<Option<Answer>, Error> {
        match self.bridge.decide(&self.claim, None).await? {
            Claim::Ours(_) => Ok(None),
            Claim::Answered(answer) => Ok(Some(answer)),
            Claim::Running => Err(Error::KeyInUse),
            Claim::Reused => Err(Error::KeyReused),
        }
    }

    /// The lease, from now on.
    fn lease(&self) -> Lease {
        self.claim.lease(self.bridge.parts.clock.now())
    }

    /// Keeps the lease from running out.
    async fn hold(&self) -> Infallible {
        loop {
            sleep(RENEWAL).await;
            if self.claim.holding().is_none() {
                continue;
            }
            let store = &self.bridge.parts.store;
            match store.renew_keyed(&self.claim.request, &self.lease()).await {
                Ok(true) => {}
                // The work is not broken off in the middle: then nobody knew how far it had come.
                Ok(false) => tracing::warn!("the lease on an idempotency key was lost"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the lease on an idempotency key could not be renewed"
                ),
            }
        }
    }

    /// Stores the answer, or frees the key. The work is done, so no failure of this is one of it.
    async fn settle(&self, fate: KeyFate) {
        let Some(holding) = self.claim.holding() else {
            return;
        };
        for tried in 1..=TRIES {
            let Err(error) = self.try_to_settle(&holding, &fate).await else {
                return;
            };
            tracing::error!(
                error = &error as &dyn std::error::Error,
                tried,
                "what became of a request with an idempotency key could not be kept; a repeat has to find out"
            );
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn try_to_settle(&self, holding: &Holding, fate: &KeyFate) -> Result<(), store::Error> {
        let store = &self.bridge.parts.store;
        let (request, lease) = (&self.claim.request, self.lease());
        if let KeyFate::Answered(answer) = fate {
            // The user that the intent is recorded for needs not be looked up once more.
            let user = self.user.as_ref().filter(|_| !holding.noted);
            let kept = store.finish_keyed(request, &lease, user, answer);
            if kept.await? {
                return Ok(());
            }
        }
        if matches!(fate, KeyFate::Open) || holding.begun.is_some() {
            // What may be at the Cloud is left to the next repeat, which need not wait for the lease.
            let until = self.bridge.parts.clock.now();
            let given_back = Lease { until, ..lease };
            return store.renew_keyed(request, &given_back).await.map(drop);
        }
        store.abandon_keyed(request, &lease).await
    }
}
