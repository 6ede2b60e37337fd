//! Refusals that nobody can explain: the conversation is looked into, once, before they are passed on.
//!
//! The Cloud has more words for a conversation that is over than are known here, and other services in front of it have
//! theirs. A user whose mapping names such a conversation would be refused for ever. A second opening finds out: the Cloud
//! refuses it while a conversation is open, and says so in documented words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Outbox;
use super::attempt::Attempt;
use crate::bridge::{Error, Joined, Session};
use crate::cloud;
use crate::types::conversation::Opening;
use crate::types::ids::ConversationId;

/// 10 minutes: a conversation that was found open is not looked into again for so long, however much is refused in it.
const REMEMBERED: Duration = Duration::from_mins(10);

/// How many such conversations are remembered; beyond it the older ones are forgotten.
const MOST: usize = 10_000;

/// The `errorCode` of a request that lacks a parameter. Source: vendor's Send API page "Authorization and Authentication".
const MISSING_PARAMETER: &str = "40001";

/// Conversations that were looked into and found open.
#[derive(Debug, Default)]
pub(super) struct FoundOpen(Mutex<HashMap<ConversationId, Instant>>);

impl FoundOpen {
    fn contains(&self, id: &ConversationId) -> bool {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        found.get(id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn add(&self, id: &ConversationId) {
        let mut found = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= MOST {
            found.retain(|_, at| at.elapsed() < REMEMBERED / 2);
        }
        if found.len() >= MOST {
            found.clear();
        }
        found.insert(id.clone(), Instant::now());
    }
}

impl Outbox {
    /// True if a refusal of a message may come from its conversation being over.
    pub(super) fn is_doubtful(&self, error: &Error, session: &Session) -> bool {
        let Error::Cloud(error) = error else {
            return false;
        };
        let is_unexplained = match error {
            cloud::Error::Refused { status, code, .. } => {
                *status != 413 && code.as_deref() != Some(MISSING_PARAMETER)
            }
            // Where the service serves others, it may be the service itself that answers so.
            cloud::Error::Blocked { status: 404 | 410 } => self
                .bridge
                .parts
                .cloud
                .is_messaging(&session.key.account_id),
            _ => false,
        };
        is_unexplained && !self.found_open.contains(&session.conversation.id)
    }

    /// Another conversation in place of a doubtful one; none if that is open after all, or if the Cloud cannot say.
    pub(super) async fn look_into(
        &self,
        attempt: &Attempt<'_>,
        opening: &Opening,
        doubted: &ConversationId,
    ) -> Option<Joined> {
        let joined = self.open(attempt, opening, Some(doubted)).await;
        let is_open = match joined {
            Ok(joined) if joined.session.conversation.id != *doubted => {
                tracing::info!(
                    account.id = %attempt.key.account_id,
                    channel.id = %attempt.caller.channel.id,
                    conversation.id = %doubted,
                    "a conversation was over: a message was refused in it, and another could be opened"
                );
                return Some(joined);
            }
            Ok(_) | Err(Error::SurveyPending) => true,
            Err(_) => false,
        };
        if is_open {
            self.found_open.add(doubted);
        }
        None
    }
}
