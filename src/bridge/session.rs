//! A user's open conversation with the token to write in it, and the requests made there.
//!
//! Requests go to the current dialog: the main one, or the survey after it. If the Cloud says that
//! this dialog has ended, the conversation has ended too, unless a survey can follow. In that case
//! only the end of the dialog is known. A request for a new conversation shows if the old one goes
//! on (`openings`).

use std::time::Duration;

use serde_json::Value;
use tokio_util::bytes::Bytes;

use super::tokens::Token;
use crate::bridge::{Bridge, Error};
use crate::cloud::{self, Content, RawRequest, Signal};
use crate::store::{OpenConversation, Typing, UserRef, UserState};
use crate::types::conversation::CurrentDialog;
use crate::types::file::ImageType;
use crate::types::ids::{DialogId, UserKey};
use crate::types::message::{Metadata, Sequence};
use crate::types::trace::Trace;

/// The state that a request in a user's open conversation needs.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) key: UserKey,
    pub(crate) user: UserRef,
    pub(crate) token: Token,
    pub(crate) conversation: OpenConversation,
    /// The typing state that the agent sees, if the user is typing.
    pub(crate) typing: Option<Typing>,
    /// The time limit of a request; `None` for the usual one.
    pub(crate) time_limit: Option<Duration>,
}

impl Session {
    /// Creates a session of a user.
    pub(crate) fn new(
        key: &UserKey,
        user: UserRef,
        token: Token,
        conversation: OpenConversation,
        typing: Option<Typing>,
    ) -> Self {
        Self {
            key: key.clone(),
            user,
            token,
            conversation,
            typing,
            time_limit: None,
        }
    }

    /// True if a dialog is open that accepts messages.
    pub(crate) fn accepts_messages(&self) -> bool {
        self.conversation.dialog != CurrentDialog::Ended
    }

    /// True if agents see the user's activity. They leave after the main dialog, and a survey
    /// refuses chat states. Source: vendor's demonstration of surveys, which sends none there.
    pub(super) fn shows_typing(&self) -> bool {
        self.conversation.dialog == CurrentDialog::Main
    }

    /// True if the conversation may go on although its current dialog has ended.
    pub(super) fn may_outlive_dialog(&self) -> bool {
        self.conversation.features.allows_survey() || !self.shows_typing()
    }

    fn at_cloud(&self) -> cloud::Conversation<'_> {
        cloud::Conversation {
            consumer: cloud::Consumer {
                account: &self.key.account_id,
                token: &self.token.token,
            },
            id: &self.conversation.id,
            dialog_id: self.conversation.dialog_id(),
            features: &self.conversation.features,
            time_limit: self.time_limit,
        }
    }
}

impl Bridge {
    /// Returns the session of a user; `None` without an open conversation.
    pub(crate) async fn session(
        &self,
        trace: &Trace,
        key: &UserKey,
    ) -> Result<Option<Session>, Error> {
        let user_state = self.parts.store.user_state(key).await?;
        self.session_of(trace, key, user_state).await
    }

    /// Returns the session of a user whose state was looked up before.
    pub(crate) async fn session_of(
        &self,
        trace: &Trace,
        key: &UserKey,
        user_state: Option<UserState>,
    ) -> Result<Option<Session>, Error> {
        let Some(UserState {
            user,
            token,
            open: Some(conversation),
            typing,
            ..
        }) = user_state
        else {
            return Ok(None);
        };
        let token = self.token(trace, key, user, token).await?;
        let session = Session::new(key, user, token, conversation, typing);
        Ok(Some(session))
    }

    /// Returns a session that accepts messages, if the looked-up state is enough for one: without a
    /// request to the Cloud, and without a write. The session then takes over that state.
    pub(crate) fn ready_session(
        &self,
        key: &UserKey,
        looked_up: &mut Option<UserState>,
    ) -> Option<Session> {
        let user_state = looked_up.as_mut()?;
        let open = user_state.open.as_ref();
        open.filter(|open| open.dialog != CurrentDialog::Ended)?;
        let token = self.ready_token(key, &mut user_state.token)?;
        let UserState {
            user, open, typing, ..
        } = looked_up.take()?;
        Some(Session::new(key, user, token, open?, typing))
    }

    /// Publishes a message in the session's conversation.
    pub(crate) async fn publish(
        &self,
        trace: &Trace,
        session: &mut Session,
        content: Content<'_>,
        metadata: Option<&Metadata>,
    ) -> Result<Sequence, Error> {
        loop {
            let conversation = session.at_cloud();
            let published = self
                .parts
                .cloud
                .publish(&conversation, content, metadata, trace);
            let outcome = Box::pin(published).await;
            if let Some(sequence) = self.settle(trace, session, outcome).await? {
                return Ok(sequence);
            }
        }
    }

    /// Uploads a file for the session's user. Returns the path that identifies it.
    pub(crate) async fn upload(
        &self,
        trace: &Trace,
        session: &mut Session,
        kind: ImageType,
        content: &Bytes,
    ) -> Result<String, Error> {
        loop {
            let conversation = session.at_cloud();
            let uploaded = self.parts.cloud.upload(&conversation, kind, content, trace);
            let outcome = Box::pin(uploaded).await;
            if let Some(path) = self.settle(trace, session, outcome).await? {
                return Ok(path);
            }
        }
    }

    /// Sends a request of any type in the session's conversation.
    pub(crate) async fn forward(
        &self,
        trace: &Trace,
        session: &mut Session,
        request: &RawRequest<'_>,
    ) -> Result<Value, Error> {
        loop {
            let conversation = session.at_cloud();
            let sent = self.parts.cloud.send_raw(&conversation, request, trace);
            let outcome = Box::pin(sent).await;
            if let Some(answer) = self.settle(trace, session, outcome).await? {
                return Ok(answer);
            }
        }
    }

    /// Sends a signal, such as a receipt or a chat state, in the session's conversation.
    pub(crate) async fn signal(
        &self,
        trace: &Trace,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        self.signal_in_dialog(None, trace, session, signal).await
    }

    /// Sends a signal in a dialog of the session's conversation; `None` for the current dialog.
    pub(super) async fn signal_in_dialog(
        &self,
        dialog_id: Option<&DialogId>,
        trace: &Trace,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        loop {
            let mut conversation = session.at_cloud();
            if let Some(dialog_id) = dialog_id {
                conversation.dialog_id = dialog_id.as_str();
            }
            let sent = self.parts.cloud.signal(&conversation, signal, trace);
            let outcome = Box::pin(sent).await;
            if let Some(()) = self.settle(trace, session, outcome).await? {
                return Ok(());
            }
        }
    }

    /// Sends a signal that makes sense only in an open conversation.
    pub(crate) async fn show(
        &self,
        trace: &Trace,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        match self.signal(trace, session, signal).await {
            Err(Error::Cloud(cloud::Error::ConversationClosed)) => Err(Error::NoOpenConversation),
            outcome => outcome,
        }
    }

    /// Renews a refused token, and records the end of a conversation that the Cloud calls closed.
    /// `None` asks for another attempt with the renewed token.
    async fn settle<T>(
        &self,
        trace: &Trace,
        session: &mut Session,
        outcome: Result<T, cloud::Error>,
    ) -> Result<Option<T>, Error> {
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.may_be_consumer_token() && !session.token.fresh => {
                let requested = self.request_token(&session.key, session.user, trace);
                session.token = Box::pin(requested).await?;
                Ok(None)
            }
            Err(error) => {
                if matches!(error, cloud::Error::ConversationClosed) {
                    Box::pin(self.record_closed(session)).await?;
                }
                Err(error.after_token_renewal().into())
            }
        }
    }

    /// Records that the Cloud calls the session's conversation closed.
    async fn record_closed(&self, session: &Session) -> Result<(), Error> {
        let store = &self.parts.store;
        let now = self.parts.clock.now();
        let conversation = &session.conversation;
        if session.may_outlive_dialog() {
            store.close_dialog(conversation.dialog_id(), now).await?;
        } else {
            store
                .close_conversation(&conversation.id, now, None)
                .await?;
        }
        Ok(())
    }
}
