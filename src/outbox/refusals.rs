//! Unexplained refusals of messages. Before such a refusal is returned, the conversation is checked
//! once.
//!
//! The Cloud has more error codes for an ended conversation than are known here, and services in
//! front of it have their own. If the bridge did not notice such an end, the user's messages would
//! be refused for ever. So it attempts to open a second conversation. While the first one is open,
//! the Cloud refuses that with a documented code.

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

/// 10 minutes: the time for which a conversation that was found open is not checked again, even if
/// more messages are refused.
const REMEMBERED: Duration = Duration::from_mins(10);

/// 10,000: the number of such conversations that are remembered. Beyond it, older ones are
/// forgotten.
const MAX_REMEMBERED: usize = 10_000;

/// The `errorCode` of a request that lacks a parameter. Source: vendor's Send API page
/// "Authorization and Authentication".
const MISSING_PARAMETER: &str = "40001";

/// The conversations that were checked and found open.
#[derive(Debug, Default)]
pub(super) struct ConfirmedOpen(Mutex<HashMap<ConversationId, Instant>>);

impl ConfirmedOpen {
    fn contains(&self, id: &ConversationId) -> bool {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.get(id).is_some_and(|at| at.elapsed() < REMEMBERED)
    }

    fn add(&self, id: &ConversationId) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MAX_REMEMBERED {
            entries.retain(|_, at| at.elapsed() < REMEMBERED / 2);
        }
        if entries.len() >= MAX_REMEMBERED {
            entries.clear();
        }
        entries.insert(id.clone(), Instant::now());
    }
}

impl Outbox {
    /// True if a message may have been refused because its conversation has ended.
    pub(super) fn may_have_ended(&self, error: &Error, session: &Session) -> bool {
        let Error::Cloud(error) = error else {
            return false;
        };
        let is_unexplained = match error {
            cloud::Error::Refused { status, code, .. } => {
                *status != 413 && code.as_deref() != Some(MISSING_PARAMETER)
            }
            // The Cloud itself has recently answered other requests, so this answer may be its own
            // too.
            cloud::Error::Blocked { status: 404 | 410 } => self
                .bridge
                .parts
                .cloud
                .is_messaging_serving(&session.key.account_id),
            _ => false,
        };
        is_unexplained && !self.confirmed_open.contains(&session.conversation.id)
    }

    /// Opens another conversation in place of a doubtful one; `None` if the doubtful one is open
    /// after all, or if that remains unknown.
    pub(super) async fn check_open(
        &self,
        attempt: &Attempt<'_>,
        opening: &Opening,
        doubtful: &ConversationId,
    ) -> Option<Joined> {
        let joined = self.open(attempt, opening, Some(doubtful)).await;
        let is_open = match joined {
            Ok(joined) if joined.session.conversation.id != *doubtful => {
                tracing::info!(
                    account.id = %attempt.key.account_id,
                    channel.id = %attempt.caller.channel.id,
                    conversation.id = %doubtful,
                    "a conversation has ended: a message in it was refused, and another conversation could be opened"
                );
                return Some(joined);
            }
            Ok(_) | Err(Error::SurveyPending) => true,
            Err(_) => false,
        };
        if is_open {
            self.confirmed_open.add(doubtful);
        }
        None
    }
}
