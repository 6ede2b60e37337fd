//! The conversations that the doctor has opened, so that none stays open.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::facts::Fact;
use super::observation::Notifications;
use crate::cloud::{self, Consumer, ConsumerToken, Conversation, Signal};
use crate::types::conversation::Features;
use crate::types::ids::{AccountId, ConversationId};
use crate::types::trace::Trace;

/// The number of attempts for a close that is refused. While the Cloud is unavailable, attempts go
/// on until the time limit.
const MAX_REFUSALS: u32 = 3;

/// 1 s: the pause between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// 20 s: the time limit for all closes. At a stop, the whole run gets 25 s.
const LIMIT: Duration = Duration::from_secs(20);

const HINT_LEFT_OPEN: &str = "close it in the agent workspace, or let the Cloud's rule for idle conversations close it; its consumer's id begins with liveperson-bridge:doctor";

/// Every opening that was requested.
#[derive(Debug, Default)]
pub(super) struct Openings(Vec<Opening>);

#[derive(Debug)]
struct Opening {
    account: AccountId,
    external_id: String,
    token: ConsumerToken,
    state: State,
}

/// The state of a conversation that was requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// No answer arrived, or none that names a conversation.
    Unknown,
    /// It does not exist.
    Refused,
    /// It is open.
    Open(ConversationId),
    /// It has ended.
    Closed(ConversationId),
}

impl Openings {
    /// Records that an opening is requested. Returns its index.
    pub(super) fn begin(
        &mut self,
        account: &AccountId,
        external_id: &str,
        token: &ConsumerToken,
    ) -> usize {
        self.0.push(Opening {
            account: account.clone(),
            external_id: external_id.to_owned(),
            token: token.clone(),
            state: State::Unknown,
        });
        self.0.len() - 1
    }

    /// Records the outcome of an opening.
    pub(super) fn settle(&mut self, number: usize, state: State) {
        if let Some(opening) = self.0.get_mut(number) {
            opening.state = state;
        }
    }

    /// Records that a conversation has ended.
    pub(super) fn closed(&mut self, id: &ConversationId) {
        for opening in &mut self.0 {
            if matches!(&opening.state, State::Open(open) if open == id) {
                opening.state = State::Closed(id.clone());
            }
        }
    }

    /// Returns the conversations whose ids are known.
    pub(super) fn conversations(&self) -> Vec<(AccountId, ConversationId)> {
        let known = self.0.iter().filter_map(|opening| match &opening.state {
            State::Open(id) | State::Closed(id) => Some((opening.account.clone(), id.clone())),
            State::Unknown | State::Refused => None,
        });
        known.collect()
    }

    /// Closes the conversations that are still open. Returns a fact for each account in which an
    /// opening was requested.
    pub(super) async fn close_all(
        &mut self,
        cloud: &cloud::Client,
        notifications: Option<&Notifications>,
        trace: &Trace,
    ) -> Vec<(AccountId, Fact)> {
        let closing = async {
            for opening in &mut self.0 {
                opening.close(cloud, notifications, trace).await;
            }
        };
        // Conversations that are not closed by then are reported as left open.
        let in_time = timeout(LIMIT, closing).await.is_ok();
        let mut facts = Vec::<(AccountId, Fact)>::new();
        for opening in &self.0 {
            if facts.iter().any(|(account, _)| *account == opening.account) {
                continue;
            }
            let of_account = |it: &&Opening| it.account == opening.account;
            let remaining = self.0.iter().filter(of_account).filter(|it| it.is_open());
            let remaining: Vec<_> = remaining.map(Opening::describe).collect();
            let fact = if remaining.is_empty() {
                Fact::ok("left_open", "no conversation")
            } else {
                let found = format!("{} may still be open", remaining.join(", "));
                Fact::failed("left_open", found, HINT_LEFT_OPEN)
            };
            let fact = fact.with("count", remaining.len()).with("in_time", in_time);
            facts.push((opening.account.clone(), fact));
        }
        facts
    }
}

impl Opening {
    fn is_open(&self) -> bool {
        matches!(self.state, State::Unknown | State::Open(_))
    }

    fn describe(&self) -> String {
        match &self.state {
            State::Open(id) => format!("conversation {id}"),
            _ => format!("a conversation of consumer {}", self.external_id),
        }
    }

    /// Closes the conversation, if it is open.
    async fn close(
        &mut self,
        cloud: &cloud::Client,
        notifications: Option<&Notifications>,
        trace: &Trace,
    ) {
        let open = match &self.state {
            State::Open(id) => Some(id.clone()),
            State::Unknown => match self.find(cloud, notifications, trace).await {
                Ok(found) => found,
                Err(_) => return,
            },
            State::Refused | State::Closed(_) => return,
        };
        let Some(id) = open else {
            self.state = State::Refused;
            return;
        };
        self.state = State::Open(id.clone());
        let features = Features::default();
        let conversation = Conversation {
            consumer: Consumer {
                account: &self.account,
                token: &self.token.token,
            },
            id: &id,
            dialog_id: id.as_str(),
            features: &features,
            time_limit: None,
        };
        let mut refusals = 0;
        while refusals < MAX_REFUSALS {
            match cloud.signal(&conversation, Signal::Close, trace).await {
                Ok(()) | Err(cloud::Error::ConversationClosed) => {
                    self.state = State::Closed(id);
                    return;
                }
                Err(error) if error.is_transient() => {}
                Err(_) => refusals += 1,
            }
            sleep(PAUSE).await;
        }
    }

    /// Finds the conversation of an opening without an answer.
    async fn find(
        &self,
        cloud: &cloud::Client,
        notifications: Option<&Notifications>,
        trace: &Trace,
    ) -> Result<Option<ConversationId>, cloud::Error> {
        if let Some(notifications) = notifications {
            let known = notifications.open_conversations(&self.account, &self.token.consumer_id);
            if let Some(id) = known.await.into_iter().next() {
                return Ok(Some(id));
            }
        }
        cloud
            .find_open_conversation(&self.account, &self.external_id, trace)
            .await
    }
}
