//! One user's open conversation with the token to speak in it, and the requests made there.
//!
//! They are made in the dialog that is current: the main one, or the survey after it. Where the Cloud says that this has
//! ended, the conversation has too, unless it is one that a survey can follow: of that only the dialog is known to have
//! ended, and whether the conversation goes on is found out by asking for a new one (`openings`).

use std::time::Duration;

use serde_json::Value;
use tokio_util::bytes::Bytes;

use super::tokens::Token;
use crate::bridge::{Bridge, Error};
use crate::cloud::{self, Content, RawRequest, Signal};
use crate::store::{OpenConversation, Standing, Typing, UserRef};
use crate::types::conversation::CurrentDialog;
use crate::types::file::ImageType;
use crate::types::ids::{DialogId, UserKey};
use crate::types::message::{Metadata, Sequence};
use crate::types::trace::Trace;

/// All that a request in a user's open conversation needs.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) key: UserKey,
    pub(crate) user: UserRef,
    pub(crate) token: Token,
    pub(crate) conversation: OpenConversation,
    /// Whether the agent sees the user typing.
    pub(crate) typing: Option<Typing>,
    /// How long a request may take; left out, as long as is usual.
    pub(crate) patience: Option<Duration>,
}

impl Session {
    /// A session of a user.
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
            patience: None,
        }
    }

    /// Whether a dialog is open that messages can go to.
    pub(crate) fn takes_messages(&self) -> bool {
        self.conversation.dialog != CurrentDialog::Ended
    }

    /// Whether agents see what the user does. They are gone after the main dialog, and a survey refuses chat states.
    /// Source: vendor's demonstration of surveys, which sends none there.
    pub(super) fn shows_typing(&self) -> bool {
        self.conversation.dialog == CurrentDialog::Main
    }

    /// Whether the conversation may go on although the dialog that was current has ended.
    pub(super) fn may_outlive_dialog(&self) -> bool {
        self.conversation.features.allow_survey() || !self.shows_typing()
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
            patience: self.patience,
        }
    }
}

impl Bridge {
    /// The session of a user with an open conversation.
    pub(crate) async fn session(
        &self,
        trace: &Trace,
        key: &UserKey,
    ) -> Result<Option<Session>, Error> {
        let standing = self.parts.store.standing(key).await?;
        self.session_of(trace, key, standing).await
    }

    /// The same where it was looked up before.
    pub(crate) async fn session_of(
        &self,
        trace: &Trace,
        key: &UserKey,
        standing: Option<Standing>,
    ) -> Result<Option<Session>, Error> {
        let Some(Standing {
            user,
            token,
            open: Some(conversation),
            typing,
            ..
        }) = standing
        else {
            return Ok(None);
        };
        let token = self.token(trace, key, user, token).await?;
        let session = Session::new(key, user, token, conversation, typing);
        Ok(Some(session))
    }

    /// The session that messages can go to, where nothing has to be asked or changed for it; what was looked up is in it then.
    pub(crate) fn ready_session(
        &self,
        key: &UserKey,
        looked_up: &mut Option<Standing>,
    ) -> Option<Session> {
        let standing = looked_up.as_mut()?;
        let open = standing.open.as_ref();
        open.filter(|open| open.dialog != CurrentDialog::Ended)?;
        let token = self.ready_token(key, &mut standing.token)?;
        let Standing {
            user, open, typing, ..
        } = looked_up.take()?;
        Some(Session::new(key, user, token, open?, typing))
    }

    /// Writes into the session's conversation.
    pub(crate) async fn publish(
        &self,
        trace: &Trace,
        session: &mut Session,
        content: Content<'_>,
        metadata: Option<&Metadata>,
    ) -> Result<Sequence, Error> {
        loop {
            let place = session.at_cloud();
            let published = self.parts.cloud.publish(&place, content, metadata, trace);
            let outcome = Box::pin(published).await;
            if let Some(sequence) = self.settle(trace, session, outcome).await? {
                return Ok(sequence);
            }
        }
    }

    /// Stores a file for the session's user; returns the path that names it.
    pub(crate) async fn upload(
        &self,
        trace: &Trace,
        session: &mut Session,
        kind: ImageType,
        content: &Bytes,
    ) -> Result<String, Error> {
        loop {
            let place = session.at_cloud();
            let uploaded = self.parts.cloud.upload(&place, kind, content, trace);
            let outcome = Box::pin(uploaded).await;
            if let Some(path) = self.settle(trace, session, outcome).await? {
                return Ok(path);
            }
        }
    }

    /// Makes a request of any type in the session's conversation.
    pub(crate) async fn forward(
        &self,
        trace: &Trace,
        session: &mut Session,
        request: &RawRequest<'_>,
    ) -> Result<Value, Error> {
        loop {
            let place = session.at_cloud();
            let sent = self.parts.cloud.send_raw(&place, request, trace);
            let outcome = Box::pin(sent).await;
            if let Some(answer) = self.settle(trace, session, outcome).await? {
                return Ok(answer);
            }
        }
    }

    /// Says something besides what is written in the session's conversation.
    pub(crate) async fn signal(
        &self,
        trace: &Trace,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        self.signal_in(None, trace, session, signal).await
    }

    /// Says something besides what is written in a dialog of the session's conversation, the main one if it names none.
    pub(super) async fn signal_in(
        &self,
        dialog_id: Option<&DialogId>,
        trace: &Trace,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        loop {
            let mut place = session.at_cloud();
            if let Some(dialog_id) = dialog_id {
                place.dialog_id = dialog_id.as_str();
            }
            let told = self.parts.cloud.signal(&place, signal, trace);
            let outcome = Box::pin(told).await;
            if let Some(()) = self.settle(trace, session, outcome).await? {
                return Ok(());
            }
        }
    }

    /// Says something that only an open conversation has a use for.
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

    /// What the Cloud's outcome means for the mapping; `None` asks for another try, with the token that was made anew.
    async fn settle<T>(
        &self,
        trace: &Trace,
        session: &mut Session,
        outcome: Result<T, cloud::Error>,
    ) -> Result<Option<T>, Error> {
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.blames_consumer_token() && !session.token.fresh => {
                let made = self.make_token(&session.key, session.user, trace);
                session.token = Box::pin(made).await?;
                Ok(None)
            }
            Err(error) => {
                if matches!(error, cloud::Error::ConversationClosed) {
                    Box::pin(self.note_closed(session)).await?;
                }
                Err(error.under_new_tokens().into())
            }
        }
    }

    /// Notes that the Cloud calls the session's conversation closed.
    async fn note_closed(&self, session: &Session) -> Result<(), Error> {
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
