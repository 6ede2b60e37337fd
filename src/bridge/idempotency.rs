//! Requests that bear a key: done once, however often they are sent.
//!
//! The work is done in a task of its own, so that a caller who hangs up takes nothing with it, and the key is held by a lease for
//! as long as that takes. Then the answer is kept for the repeats, or the key is free again where nothing was done. When the
//! process dies in the middle, the lease runs out, and the next repeat finishes the work: what may have reached the Cloud was
//! written down before (`takeoff`).
//!
//! A key is claimed before the work. Only a text claims its own, once it is known what of it goes to the Cloud, and writes that
//! down at once; until then it has only looked. Where it never comes to that, because the text is refused or cannot be looked
//! up, the key is claimed after it: who repeats what was done is told so, whatever else could be said of the repeat.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::lanes::RENEWAL;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{self, Answer, Claim, Holding, Intent, KeyedRequest, LEASE, Lease};
use crate::telemetry::metrics::KEYED_REQUESTS;
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
    /// Whether the work claims the key, before it changes or sends anything.
    pub is_claimed_by_work: bool,
}

/// Work that was done.
#[derive(Debug)]
pub struct Done<R> {
    /// What came of it.
    pub outcome: R,
    /// The answer for repeats; none where nothing was done, so that a repeat may do it.
    pub kept: Option<Answer>,
}

/// What became of a request with a key.
#[derive(Debug)]
pub enum Once<R> {
    /// It was done now.
    Fresh(R),
    /// It had been done.
    Repeated(Answer),
}

/// The key of a request that is worked on.
#[derive(Debug)]
pub struct Claimed {
    request: KeyedRequest,
    lease_id: String,
    /// What came of claiming it, once it was tried.
    claim: OnceLock<Tried>,
    /// Whether a repeat is to find out what became of it.
    left_open: AtomicBool,
}

/// What came of claiming a key.
#[derive(Debug)]
enum Tried {
    Known(Claim),
    /// The storage was away.
    Unknown,
}

impl Claimed {
    /// Leaves it to a repeat to find out what became of what was about to be sent: the answer that is given now is not kept.
    pub(super) fn leave_open(&self) {
        self.left_open.store(true, Ordering::Relaxed);
    }

    /// Does not ask a storage that is away once more, to be told the same after the same time.
    pub(super) fn give_up(&self) {
        self.claim.get_or_init(|| Tried::Unknown);
    }

    /// What is held, where it is.
    fn holding(&self) -> Option<&Holding> {
        match self.claim.get() {
            Some(Tried::Known(Claim::Ours(holding))) => Some(holding),
            _ => None,
        }
    }

    /// Whether somebody died over the request who was about to send something of it.
    pub(super) fn has_begun(&self) -> bool {
        self.holding()
            .is_some_and(|holding| holding.begun.is_some())
    }

    pub(super) fn request(&self) -> &KeyedRequest {
        &self.request
    }

    /// The lease on the key, from now on.
    pub(super) fn lease(&self, now: DateTime<Utc>) -> Lease {
        Lease {
            id: self.lease_id.clone(),
            until: now + LEASE,
        }
    }
}

/// A request with a key, and how to settle it.
struct Held {
    bridge: Bridge,
    claimed: Arc<Claimed>,
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
        work: impl FnOnce(Arc<Claimed>) -> F + Send + 'static,
    ) -> Result<Once<R>, Error>
    where
        R: Send + 'static,
        F: Future<Output = Done<R>> + Send + 'static,
    {
        let Keyed {
            key,
            fingerprint,
            user_id,
            is_claimed_by_work,
        } = keyed;
        let held = Held {
            bridge: self.clone(),
            claimed: Arc::new(Claimed {
                request: KeyedRequest {
                    channel_id: caller.channel.id.clone(),
                    key: key.hash(caller.user.as_ref()),
                    fingerprint,
                },
                lease_id: self.parts.clock.uuid().to_string(),
                claim: OnceLock::new(),
                left_open: AtomicBool::new(false),
            }),
            user: user_id.map(|user_id| caller.key(user_id)),
        };
        let whole = async move {
            if !is_claimed_by_work && let Some(answer) = held.claim().await? {
                return Ok(Once::Repeated(answer));
            }
            let Done { outcome, kept } = tokio::select! {
                done = work(Arc::clone(&held.claimed)) => done,
                never = held.hold() => match never {},
            };
            if let Some(answer) = held.claim().await? {
                return Ok(Once::Repeated(answer));
            }
            held.settle(kept).await;
            Ok(Once::Fresh(outcome))
        };
        let task = self.parts.tasks.spawn(whole.instrument(Span::current()));
        task.await.map_err(|_| Error::Interrupted)?
    }

    /// What is held of a request, whose key is claimed unless that has been tried; `intent` is written down with it.
    ///
    /// # Errors
    ///
    /// When the storage is away; [`Error::KeyInUse`] where the request is not to be done, and then `once` says why.
    pub(super) async fn claim<'a>(
        &self,
        claimed: &'a Claimed,
        intent: Option<Intent>,
    ) -> Result<&'a Holding, Error> {
        self.try_to_claim(claimed, intent).await?;
        claimed.holding().ok_or(Error::KeyInUse)
    }

    /// Claims a key unless that has been tried.
    async fn try_to_claim(&self, claimed: &Claimed, intent: Option<Intent>) -> Result<(), Error> {
        if claimed.claim.get().is_some() {
            return Ok(());
        }
        let found = self.find_claim(claimed, intent).await;
        let found = found.inspect_err(|_| claimed.give_up())?;
        claimed.claim.get_or_init(|| Tried::Known(found));
        Ok(())
    }

    async fn find_claim(&self, claimed: &Claimed, intent: Option<Intent>) -> Result<Claim, Error> {
        let clock = &self.parts.clock;
        let now = clock.now();
        let message_id = MessageId::new(clock.uuid());
        let request = &claimed.request;
        let store = &self.parts.store;
        let claim = store
            .begin_keyed(request, message_id, &claimed.lease(now), intent, now)
            .await?;
        let outcome = match &claim {
            Claim::Ours(Holding { resumed: false, .. }) => "fresh",
            Claim::Ours(Holding { resumed: true, .. }) => "resumed",
            Claim::Answered(_) => "replayed",
            Claim::Running => "in_use",
            Claim::Reused => "reused",
        };
        let channel = request.channel_id.as_str();
        self.parts
            .metrics
            .count(&KEYED_REQUESTS, [channel, outcome], 1);
        if outcome == "resumed" {
            tracing::warn!("a request whose replica died over it is done by its repeat");
        }
        Ok(claim)
    }
}

impl Held {
    /// Claims the key unless that has been tried; the answer that its request was given before.
    async fn claim(&self) -> Result<Option<Answer>, Error> {
        self.bridge.try_to_claim(&self.claimed, None).await?;
        match self.claimed.claim.get() {
            Some(Tried::Known(Claim::Answered(answer))) => Ok(Some(answer.clone())),
            Some(Tried::Known(Claim::Running)) => Err(Error::KeyInUse),
            Some(Tried::Known(Claim::Reused)) => Err(Error::KeyReused),
            // Of a storage that was away the work has told.
            Some(Tried::Known(Claim::Ours(_)) | Tried::Unknown) | None => Ok(None),
        }
    }

    /// The lease, from now on.
    fn lease(&self) -> Lease {
        self.claimed.lease(self.bridge.parts.clock.now())
    }

    /// Keeps the lease from running out.
    async fn hold(&self) -> Infallible {
        loop {
            sleep(RENEWAL).await;
            if self.claimed.holding().is_none() {
                continue;
            }
            let store = &self.bridge.parts.store;
            match store
                .renew_keyed(&self.claimed.request, &self.lease())
                .await
            {
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

    /// Keeps the answer, or frees the key. The work is done, so no failure of this is one of it.
    async fn settle(&self, kept: Option<Answer>) {
        let Some(holding) = self.claimed.holding() else {
            return;
        };
        for tried in 1..=TRIES {
            let Err(error) = self.try_to_settle(holding, kept.as_ref()).await else {
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

    async fn try_to_settle(
        &self,
        holding: &Holding,
        kept: Option<&Answer>,
    ) -> Result<(), store::Error> {
        let store = &self.bridge.parts.store;
        let (request, lease) = (&self.claimed.request, self.lease());
        let is_left_open = self.claimed.left_open.load(Ordering::Relaxed);
        if let (Some(answer), false) = (kept, is_left_open) {
            // Whoever the intent is noted for needs not be looked up once more.
            let user = self.user.as_ref().filter(|_| !holding.noted);
            let kept = store.finish_keyed(request, &lease, user, answer);
            if kept.await? {
                return Ok(());
            }
        }
        if is_left_open || holding.begun.is_some() {
            // What may be at the Cloud is left to the next repeat, which need not wait for the lease.
            let until = self.bridge.parts.clock.now();
            let given_back = Lease { until, ..lease };
            return store.renew_keyed(request, &given_back).await.map(drop);
        }
        store.abandon_keyed(request, &lease).await
    }
}
