//! One user's open conversation with the token to speak in it, and the requests made there.

use super::tokens::Token;
use crate::bridge::{Bridge, Caller, Error};
use crate::cloud;
use crate::store::{OpenConversation, Standing, UserRef};
use crate::types::ids::UserKey;
use crate::types::message::{ChatState, ReceiptStatus, Sequence};

/// All that a request in a user's open conversation needs.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) key: UserKey,
    pub(super) user: UserRef,
    pub(super) token: Token,
    pub(super) conversation: OpenConversation,
}

/// What is done in a conversation beside writing.
#[derive(Debug, Clone, Copy)]
pub(super) enum Signal<'a> {
    Typing(ChatState),
    Receipts(ReceiptStatus, &'a [Sequence]),
    Close,
}

impl Session {
    fn at_cloud(&self) -> cloud::Conversation<'_> {
        cloud::Conversation {
            consumer: cloud::Consumer {
                account: &self.key.account_id,
                token: &self.token.token,
            },
            id: &self.conversation.id,
            // The main dialog bears the conversation's id.
            dialog_id: self.conversation.id.as_str(),
            features: &self.conversation.features,
        }
    }
}

impl Bridge {
    /// The session of a user with an open conversation.
    pub(super) async fn session(
        &self,
        caller: &Caller,
        key: &UserKey,
    ) -> Result<Option<Session>, Error> {
        let Some(Standing {
            user,
            token,
            open: Some(conversation),
        }) = self.parts.store.standing(key).await?
        else {
            return Ok(None);
        };
        let token = self.token(caller, key, user, token).await?;
        Ok(Some(Session {
            key: key.clone(),
            user,
            token,
            conversation,
        }))
    }

    /// Writes into the session's conversation.
    pub(super) async fn publish(
        &self,
        caller: &Caller,
        session: &mut Session,
        text: &str,
    ) -> Result<Sequence, Error> {
        loop {
            let outcome = self
                .parts
                .cloud
                .publish_text(&session.at_cloud(), text, &caller.trace)
                .await;
            if let Some(sequence) = self.settle(caller, session, outcome).await? {
                return Ok(sequence);
            }
        }
    }

    /// Does something else in the session's conversation.
    pub(super) async fn signal(
        &self,
        caller: &Caller,
        session: &mut Session,
        signal: Signal<'_>,
    ) -> Result<(), Error> {
        loop {
            let (cloud, trace) = (&self.parts.cloud, &caller.trace);
            let conversation = session.at_cloud();
            let outcome = match signal {
                Signal::Typing(state) => {
                    cloud.publish_chat_state(&conversation, state, trace).await
                }
                Signal::Receipts(status, sequences) => {
                    cloud
                        .publish_receipts(&conversation, status, sequences, trace)
                        .await
                }
                Signal::Close => cloud.close(&conversation, trace).await,
            };
            if let Some(()) = self.settle(caller, session, outcome).await? {
                return Ok(());
            }
        }
    }

    /// What the Cloud's outcome means for the mapping; `None` asks for another try, with the token that was made anew.
    async fn settle<T>(
        &self,
        caller: &Caller,
        session: &mut Session,
        outcome: Result<T, cloud::Error>,
    ) -> Result<Option<T>, Error> {
        match outcome {
            Ok(answer) => Ok(Some(answer)),
            Err(cloud::Error::ConsumerTokenRefused) if !session.token.fresh => {
                session.token = self
                    .make_token(&session.key, session.user, &caller.trace)
                    .await?;
                Ok(None)
            }
            Err(error) => {
                if matches!(error, cloud::Error::ConversationClosed) {
                    let now = self.parts.clock.now();
                    self.parts
                        .store
                        .close_conversation(&session.conversation.id, now, None)
                        .await?;
                }
                Err(error.into())
            }
        }
    }
}
