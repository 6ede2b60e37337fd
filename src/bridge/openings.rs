//! Openings of conversations: one per user at a time, for any number of callers and replicas.
//!
//! Within a process, all callers that need the same user's conversation join one opening. They
//! share its outcome, including a failure, so a Cloud that is down gets one request and not one
//! from each caller. Between processes, the lease on the user's lane decides: its holder opens the
//! conversation, the others poll for the result. The opening is its own task, so a caller that
//! disconnects does not cancel it. Otherwise the id of a conversation that the Cloud has just
//! opened could be lost.

mod recorded;

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::lanes::LaneWait;
use super::session::Session;
use super::tokens::Token;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud;
use crate::store::{Lease, OpenConversation, Opened, UserRef};
use crate::types::conversation::{CurrentDialog, Opening};
use crate::types::ids::{ConversationId, UserKey};
use crate::types::profile::Profile;
use recorded::may_have_opened;

/// 12 s: the limit of an opening: a lookup, two tokens and the request itself twice, each within
/// its own limit. It is less than a lease.
const OPENING_LIMIT: Duration = Duration::from_secs(12);

/// 2,048: the number of openings in progress in this process. They go on even if their callers
/// disconnect.
const MAX_OPENINGS: usize = 2048;

/// The openings in progress in this process.
#[derive(Debug)]
pub(super) struct Openings {
    in_flight: DashMap<UserKey, watch::Receiver<Option<Outcome>>>,
    permits: Arc<Semaphore>,
}

impl Default for Openings {
    fn default() -> Self {
        Self {
            in_flight: DashMap::new(),
            permits: Arc::new(Semaphore::new(MAX_OPENINGS)),
        }
    }
}

type Outcome = Result<Joined, Error>;

/// A request for an open conversation.
#[derive(Clone, Copy)]
pub(crate) struct OpeningRequest<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) key: &'a UserKey,
    pub(crate) opening: &'a Opening,
    /// The open conversation that may have ended.
    pub(crate) instead_of: Option<&'a ConversationId>,
    /// The user, if the caller holds the user's lane and continues to hold it.
    pub(crate) lane: Option<UserRef>,
}

/// A session and its origin.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) session: Session,
    /// True if this opening created the conversation rather than found it open.
    pub(crate) opened: bool,
    /// True if this caller started the opening.
    pub(crate) first: bool,
}

impl Bridge {
    /// Returns the session of a user who had no open conversation a moment ago, or one that may
    /// have ended. Opens a conversation unless that has happened meanwhile.
    pub(crate) async fn open(&self, request: OpeningRequest<'_>) -> Result<Joined, Error> {
        match request.lane {
            None => self.join(request).await,
            Some(user) => {
                let opened = self.open_leased(request, user, None);
                let outcome = timeout(OPENING_LIMIT, opened).await;
                outcome.unwrap_or(Err(Error::OpeningPending { cause: None }))
            }
        }
    }

    /// Joins the opening of this user that is in progress here, or starts one.
    async fn join(&self, request: OpeningRequest<'_>) -> Outcome {
        let OpeningRequest {
            caller,
            key,
            opening,
            instead_of,
            ..
        } = request;
        let (mut receiver, first) = match self.openings.in_flight.entry(key.clone()) {
            Entry::Occupied(entry) => (entry.get().clone(), false),
            Entry::Vacant(vacant) => {
                let permit = Arc::clone(&self.openings.permits).try_acquire_owned();
                let permit = permit.map_err(|_| Error::TooManyOpenings)?;
                let (sender, receiver) = watch::channel(None);
                vacant.insert(receiver.clone());
                let (bridge, caller) = (self.clone(), caller.clone());
                let (key, opening) = (key.clone(), opening.clone());
                let instead_of = instead_of.cloned();
                self.parts.tasks.spawn(async move {
                    let outcome = {
                        // Removed from the map before the outcome is published, also by a panic.
                        // Later callers must not get an old outcome.
                        let _guard = OpeningGuard(&bridge, &key);
                        let request = OpeningRequest {
                            caller: &caller,
                            key: &key,
                            opening: &opening,
                            instead_of: instead_of.as_ref(),
                            lane: None,
                        };
                        bridge.open_with_lane(request).await
                    };
                    drop(permit);
                    sender.send_replace(Some(outcome));
                });
                (receiver, true)
            }
        };
        let outcome = receiver.wait_for(Option::is_some).await;
        match outcome.as_deref() {
            Ok(Some(outcome)) => outcome.clone().map(|joined| Joined { first, ..joined }),
            Ok(None) | Err(_) => Err(Error::Interrupted),
        }
    }

    /// Opens the user's conversation, or finds the one that another replica has opened meanwhile.
    async fn open_with_lane(&self, request: OpeningRequest<'_>) -> Outcome {
        let OpeningRequest {
            caller,
            key,
            instead_of,
            ..
        } = request;
        let store = &self.parts.store;
        let user = store.ensure_user(key, self.parts.clock.now()).await?;
        let mut lane_wait = LaneWait::new();
        let lease = loop {
            if let Some(lease) = self.try_claim_lane(user).await? {
                break lease;
            }
            if self.parts.stopping.is_cancelled() {
                return Err(Error::OpeningPending { cause: None });
            }
            lane_wait.wait().await?;
            let session = self.session(&caller.trace, key).await?;
            let is_another = |session: &Session| {
                session.accepts_messages() && Some(&session.conversation.id) != instead_of
            };
            if let Some(session) = session.filter(is_another) {
                return Ok(Joined::found(session));
            }
        };
        let outcome = timeout(OPENING_LIMIT, self.open_leased(request, user, Some(&lease)))
            .await
            .unwrap_or(Err(Error::OpeningPending { cause: None }));
        // Storing an opened conversation has released the lane in the same transaction.
        if !matches!(&outcome, Ok(joined) if joined.opened) {
            store.release_lane(user, &lease).await?;
        }
        outcome
    }

    /// Opens the user's conversation while the lane is held, and releases `lease` when the
    /// conversation is stored. An open conversation is returned as it is, unless it is the one that
    /// may have ended. In that case the Cloud decides: it refuses a second conversation while the
    /// first one goes on.
    async fn open_leased(
        &self,
        request: OpeningRequest<'_>,
        user: UserRef,
        lease: Option<&Lease>,
    ) -> Outcome {
        let OpeningRequest {
            caller,
            key,
            opening,
            instead_of,
            ..
        } = request;
        let store = &self.parts.store;
        let user_state = store.user_state(key).await?.ok_or(Error::UserNotFound)?;
        let mut token = self
            .token(&caller.trace, key, user, user_state.token)
            .await?;
        // Only the Cloud knows if a survey follows a main dialog that has ended. So a new
        // conversation is requested, which it refuses while the old one goes on. A wait for
        // anything else, such as a notification, could last for ever.
        let ended = match user_state.open {
            Some(conversation)
                if conversation.dialog != CurrentDialog::Ended
                    && Some(&conversation.id) != instead_of =>
            {
                return Ok(Joined::found(Session::new(
                    key,
                    user,
                    token,
                    conversation,
                    user_state.typing,
                )));
            }
            open => open.map(|conversation| conversation.id),
        };
        // For the Cloud, a user who comes back after an erasure is the same consumer.
        Box::pin(self.finish_erasure(&caller.trace, key)).await?;
        let recorded = self
            .record_opening(caller, user, opening, ended.as_ref())
            .await?;
        let Some(recorded) = recorded else {
            let session = self.session(&caller.trace, key).await?;
            return session.map(Joined::found).ok_or(Error::ConversationLost);
        };
        let answer = self
            .open_at_cloud(caller, key, user, &mut token, opening, &recorded.profile)
            .await
            .and_then(|answer| answer.conversation(ended.as_ref()));
        let (id, opened) = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if !may_have_opened(&error) {
                    self.discard_opening(&recorded).await?;
                }
                return Err(error);
            }
        };
        // A conversation that the Cloud had reported as closed goes on. Only its main dialog was
        // closed, or the report was wrong.
        if !opened && ended.is_none() && store.reopen_conversation(user, &id).await? {
            self.settle_opening(&recorded).await?;
            return self.reopened(caller, key, user, &id).await;
        }
        let conversation = OpenConversation {
            id,
            features: opening.features.clone(),
            dialog: CurrentDialog::Main,
        };
        let is_inserted = store
            .insert_opened(
                &Opened {
                    user,
                    channel_id: &caller.channel.id,
                    conversation: &conversation,
                    opened_by: recorded.opened_by(opened),
                    replaced: ended.as_ref(),
                    // Stored only if the opening has one: a profile that was set meanwhile is newer
                    // than the one that was sent.
                    profile: opening.profile.is_some().then_some(&recorded.profile),
                    at: self.parts.clock.now(),
                },
                lease,
            )
            .await?;
        tracing::info!(
            account.id = %key.account_id,
            channel.id = %caller.channel.id,
            conversation.id = %conversation.id,
            request_id = caller.trace.request_id(),
            found_again = !opened,
            "conversation opened"
        );
        // Unmatched changes of the conversation can be matched now. If this signal is lost, they
        // are matched a little later.
        let _later = self.parts.opened.try_send(conversation.id.clone());
        if !is_inserted {
            let user_state = store.user_state(key).await?;
            if user_state.is_none_or(|user_state| user_state.user != user) {
                // The user was erased meanwhile, and only this task knows of the conversation.
                self.store_pending_close(key, &token, &conversation.id, &conversation.features)
                    .await?;
                return Err(Error::OpeningPending { cause: None });
            }
            // Another conversation became the open one.
            let session = self.session(&caller.trace, key).await?;
            return session.map(Joined::found).ok_or(Error::ConversationLost);
        }
        Ok(Joined {
            session: Session::new(key, user, token, conversation, None),
            opened,
            first: false,
        })
    }

    /// Returns the session of a conversation that goes on although the Cloud had reported it as
    /// closed. If a survey can follow the main dialog, that dialog is what was closed. Otherwise
    /// the report was wrong, as a single odd answer can be.
    async fn reopened(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: UserRef,
        id: &ConversationId,
    ) -> Outcome {
        let mut session = self.session(&caller.trace, key).await?;
        let is_wrong = |session: &Session| {
            !session.accepts_messages() && !session.conversation.features.allows_survey()
        };
        if session.as_ref().is_some_and(is_wrong) {
            self.parts.store.reopen_main_dialog(user, id).await?;
            session = self.session(&caller.trace, key).await?;
        }
        let session = session.filter(Session::accepts_messages);
        session.map(Joined::found).ok_or(Error::SurveyPending)
    }

    /// Requests a conversation from the Cloud. If one is open already, finds its id.
    async fn open_at_cloud(
        &self,
        caller: &Caller,
        key: &UserKey,
        user: UserRef,
        token: &mut Token,
        opening: &Opening,
        profile: &Profile,
    ) -> Result<AtCloud, Error> {
        let request = cloud::Opening {
            profile: Some(profile),
            routing: opening.routing.as_ref(),
            context: opening.context.as_ref(),
            urgency: opening.urgency,
            features: &opening.features,
        };
        let cloud = &self.parts.cloud;
        let trace = &caller.trace;
        let mut is_closed_again = false;
        loop {
            let consumer = cloud::Consumer {
                account: &key.account_id,
                token: &token.token,
            };
            match cloud.open(&consumer, &request, trace).await {
                Ok(id) => return Ok(AtCloud::Opened(id)),
                Err(error) if error.may_be_consumer_token() && !token.fresh => {
                    *token = self.request_token(key, user, trace).await?;
                }
                Err(cloud::Error::AlreadyOpen) => {
                    // The Cloud's notification may have come although its answer did not.
                    if let Some(id) = self.parts.store.unmatched_conversation(user).await? {
                        return Ok(AtCloud::Open(Some(id)));
                    }
                    let found = cloud
                        .find_open_conversation(&key.account_id, &key.external_id(), trace)
                        .await?;
                    let Some(id) = found else {
                        return Ok(AtCloud::Open(None));
                    };
                    if !self.parts.store.is_erased(&id).await? {
                        return Ok(AtCloud::Open(Some(id)));
                    }
                    // A conversation of an erased user must not become another user's.
                    if is_closed_again {
                        return Err(Error::ConversationLost);
                    }
                    Box::pin(self.close_again(trace, key, &id, token)).await?;
                    is_closed_again = true;
                }
                Err(error) if error.outcome_unknown() => {
                    return Err(Error::OpeningPending { cause: Some(error) });
                }
                Err(error) => return Err(error.after_token_renewal().into()),
            }
        }
    }
}

/// The user's conversation at the Cloud.
enum AtCloud {
    /// A conversation that was opened now.
    Opened(ConversationId),
    /// A conversation that was open before; `None` if the Cloud does not say which.
    Open(Option<ConversationId>),
}

impl AtCloud {
    /// Returns the conversation, and true if it was opened now. Fails if it is the one whose main
    /// dialog has `ended`.
    fn conversation(self, ended: Option<&ConversationId>) -> Result<(ConversationId, bool), Error> {
        match (self, ended) {
            (Self::Opened(id), _) => Ok((id, true)),
            (Self::Open(found), Some(ended)) if found.as_ref().is_none_or(|id| id == ended) => {
                Err(Error::SurveyPending)
            }
            (Self::Open(found), _) => Ok((found.ok_or(Error::ConversationLost)?, false)),
        }
    }
}

impl Joined {
    fn found(session: Session) -> Self {
        Self {
            session,
            opened: false,
            first: false,
        }
    }
}

/// Removes an opening from the map when it ends, even by a panic.
struct OpeningGuard<'a>(&'a Bridge, &'a UserKey);

impl Drop for OpeningGuard<'_> {
    fn drop(&mut self) {
        self.0.openings.in_flight.remove(self.1);
    }
}
