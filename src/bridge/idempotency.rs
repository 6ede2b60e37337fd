//! Requests that bear a key: done once, however often they are sent.
//!
//! Who claims a key does the work in a task of its own, so that a caller who hangs up takes nothing with it, and holds a
//! lease on the key for as long as that takes. Then the answer is kept for the repeats, or the key is free again where
//! nothing was done. When the process dies in the middle, the lease runs out, and the next repeat finishes the work: what may
//! have reached the Cloud was written down before (`takeoff`).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use super::lanes::{LEASE, RENEWAL};
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{self, Answer, Begun, Claim, KeyedRequest, Lease};
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

/// A key that is held while its request is worked on.
#[derive(Debug)]
pub struct Claimed {
    request: KeyedRequest,
    lease_id: String,
    /// What a message of the request is called, whoever finishes it.
    pub(super) message_id: MessageId,
    /// When the request first came.
    pub(super) created_at: DateTime<Utc>,
    /// Whether somebody had begun it and died over it.
    pub(super) resumed: bool,
    /// What that one was last about to send.
    pub(super) begun: Option<Begun>,
    /// Whether a repeat is to find out what became of it.
    left_open: AtomicBool,
}

impl Claimed {
    /// Leaves it to a repeat to find out what became of what was about to be sent: the answer that is given now is not kept.
    pub(super) fn leave_open(&self) {
        self.left_open.store(true, Ordering::Relaxed);
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

/// A claimed request.
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
        } = keyed;
        let request = KeyedRequest {
            channel_id: caller.channel.id.clone(),
            key,
            fingerprint,
        };
        let bridge = self.clone();
        let user = user_id.map(|user_id| caller.key(user_id));
        let whole = async move {
            let claimed = match bridge.claim(request).await? {
                Ok(claimed) => Arc::new(claimed),
                Err(answer) => return Ok(Once::Repeated(answer)),
            };
            let held = Held {
                bridge,
                claimed: Arc::clone(&claimed),
                user,
            };
            let Done { outcome, kept } = tokio::select! {
                done = work(claimed) => done,
                never = held.hold() => match never {},
            };
            held.settle(kept).await;
            Ok(Once::Fresh(outcome))
        };
        let task = self.parts.tasks.spawn(whole.instrument(Span::current()));
        task.await.map_err(|_| Error::Interrupted)?
    }

    /// Claims a request, or finds the answer that it was given.
    async fn claim(&self, request: KeyedRequest) -> Result<Result<Claimed, Answer>, Error> {
        let clock = &self.parts.clock;
        let message_id = MessageId::new(clock.uuid());
        let lease = self.new_lease();
        let store = &self.parts.store;
        let claim = store
            .begin_keyed(&request, message_id, &lease, clock.now())
            .await?;
        let outcome = match &claim {
            Claim::Ours { resumed: false, .. } => "fresh",
            Claim::Ours { resumed: true, .. } => "resumed",
            Claim::Answered(_) => "replayed",
            Claim::Running => "in_use",
            Claim::Reused => "reused",
        };
        let channel = request.channel_id.as_str();
        self.parts
            .metrics
            .count(&KEYED_REQUESTS, [channel, outcome], 1);
        match claim {
            Claim::Ours {
                message_id,
                created_at,
                resumed,
                begun,
            } => {
                if resumed {
                    tracing::warn!("a request whose replica died over it is done by its repeat");
                }
                Ok(Ok(Claimed {
                    request,
                    lease_id: lease.id,
                    message_id,
                    created_at,
                    resumed,
                    begun,
                    left_open: AtomicBool::new(false),
                }))
            }
            Claim::Answered(answer) => Ok(Err(answer)),
            Claim::Running => Err(Error::KeyInUse),
            Claim::Reused => Err(Error::KeyReused),
        }
    }
}

impl Held {
    /// The lease, from now on.
    fn lease(&self) -> Lease {
        self.claimed.lease(self.bridge.parts.clock.now())
    }

    /// Keeps the lease from running out.
    async fn hold(&self) -> Infallible {
        loop {
            sleep(RENEWAL).await;
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
        for tried in 1..=TRIES {
            let Err(error) = self.try_to_settle(kept.as_ref()).await else {
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

    async fn try_to_settle(&self, kept: Option<&Answer>) -> Result<(), store::Error> {
        let store = &self.bridge.parts.store;
        let (request, lease) = (&self.claimed.request, self.lease());
        let is_left_open = self.claimed.left_open.load(Ordering::Relaxed);
        if let (Some(answer), false) = (kept, is_left_open) {
            let kept = store.finish_keyed(request, &lease, self.user.as_ref(), answer);
            if kept.await? {
                return Ok(());
            }
        }
        if is_left_open || self.claimed.begun.is_some() {
            // What may be at the Cloud is left to the next repeat, which need not wait for the lease.
            let until = self.bridge.parts.clock.now();
            let given_back = Lease { until, ..lease };
            return store.renew_keyed(request, &given_back).await.map(drop);
        }
        store.abandon_keyed(request, &lease).await
    }
}
