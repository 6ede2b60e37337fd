//! Requests that bear a key: done once, however often they are sent.
//!
//! Who claims a key does the work in a task of its own, so that a caller who hangs up takes nothing with it, and holds a
//! lease on the key for as long as that takes. Then the answer is kept for the repeats, or the key is free again where
//! nothing was done. When the process dies in the middle, the lease runs out, and the next repeat does the work.

use std::convert::Infallible;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::sleep;
use tracing::{Instrument as _, Span};

use crate::bridge::{Bridge, Caller, Error};
use crate::store::{self, Answer, Claim, KeyedRequest, Lease};
use crate::types::idempotency::{Fingerprint, IdempotencyKey};
use crate::types::ids::{UserId, UserKey};
use crate::types::message::MessageId;

/// 15 s: how long a key stays locked after the replica that worked on its request has died.
const LEASE: TimeDelta = TimeDelta::seconds(15);

/// 5 s: two renewals may fail before the lease is lost.
const RENEWAL: Duration = Duration::from_secs(5);

/// How often it is tried to keep an answer, a second apart: what is not kept may be done twice.
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

/// A claimed request.
struct Held {
    bridge: Bridge,
    request: KeyedRequest,
    user: Option<UserKey>,
    lease: Lease,
}

impl Bridge {
    /// Does a request's work unless that has been done under its key. The work is given the id for a message of it, and
    /// goes on to its end although the caller goes away.
    ///
    /// # Errors
    ///
    /// [`Error::KeyInUse`]; [`Error::KeyReused`]; when the storage is away; [`Error::Interrupted`] when the work panics.
    pub async fn once<R, F>(
        &self,
        caller: &Caller,
        keyed: Keyed,
        work: impl FnOnce(MessageId) -> F + Send + 'static,
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
        let mut held = Held {
            bridge: self.clone(),
            request: KeyedRequest {
                channel_id: caller.channel.id.clone(),
                key,
                fingerprint,
            },
            user: user_id.map(|user_id| caller.key(user_id)),
            lease: Lease {
                id: self.parts.clock.uuid().to_string(),
                until: self.parts.clock.now() + LEASE,
            },
        };
        let whole = async move {
            let message_id = match held.claim().await? {
                Claim::Ours { message_id, .. } => message_id,
                Claim::Running => return Err(Error::KeyInUse),
                Claim::Answered(answer) => return Ok(Once::Repeated(answer)),
                Claim::Reused => return Err(Error::KeyReused),
            };
            let Done { outcome, kept } = tokio::select! {
                done = work(message_id) => done,
                never = held.hold() => match never {},
            };
            held.settle(kept).await;
            Ok(Once::Fresh(outcome))
        };
        let task = self.parts.tasks.spawn(whole.instrument(Span::current()));
        task.await.map_err(|_| Error::Interrupted)?
    }
}

impl Held {
    async fn claim(&self) -> Result<Claim, Error> {
        let clock = &self.bridge.parts.clock;
        let message_id = MessageId::new(clock.uuid());
        let store = &self.bridge.parts.store;
        let claim = store
            .begin_keyed(&self.request, message_id, &self.lease, clock.now())
            .await?;
        if let Claim::Ours { resumed: true, .. } = claim {
            tracing::warn!("a request whose replica died over it is done by its repeat");
        }
        Ok(claim)
    }

    /// Keeps the lease from running out.
    async fn hold(&mut self) -> Infallible {
        loop {
            sleep(RENEWAL).await;
            self.lease.until = self.bridge.parts.clock.now() + LEASE;
            let store = &self.bridge.parts.store;
            match store.renew_keyed(&self.request, &self.lease).await {
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
                "what became of a request with an idempotency key could not be kept; a repeat may do it again"
            );
            sleep(Duration::from_secs(1)).await;
        }
    }

    async fn try_to_settle(&self, kept: Option<&Answer>) -> Result<(), store::Error> {
        let store = &self.bridge.parts.store;
        if let Some(answer) = kept {
            let (request, user) = (&self.request, self.user.as_ref());
            let kept = store.finish_keyed(request, &self.lease, user, answer);
            if kept.await? {
                return Ok(());
            }
        }
        store.abandon_keyed(&self.request, &self.lease).await
    }
}
