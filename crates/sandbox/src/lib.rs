//! A simulated Conversational Cloud for tests, the demo and the `sandbox` command.
//!
//! It is an independent implementation of the Cloud's contract. It shares no type with the bridge's
//! client, so that a wrong member name on either side shows as a refused request. The real Cloud
//! tolerates or ignores some input that its documents do not allow. The sandbox refuses such input,
//! and its answer names the member and the expected value.
//!
//! Every request takes one path (`server`): it is recorded, shown on the `wire`, affected by a
//! fault if one was injected, and answered. Each service has a module with its answers: `domains`,
//! `sentinel`, `idp`, `messaging`, `monitoring` and `storage`. A new endpoint needs a variant of
//! [`Operation`] and a function in one of these modules.
//!
//! All state is in memory, behind one lock that is never held across an `await`. Releasing the lock
//! notifies subscribers ([`webhooks`]) of the changes that its holder made. The surroundings of the
//! Cloud, for people who watch a demo, are in [`stage`].

pub mod agent;
mod authorization;
mod behaviour;
mod control;
mod control_request;
mod conversations;
mod domains;
mod faults;
mod files;
mod guard;
mod hex;
mod idp;
mod messaging;
mod monitoring;
mod notification;
mod operation;
mod options;
mod page;
mod participant;
mod recording;
mod refusal;
mod reported_states;
#[expect(
    dead_code,
    reason = "a shape is checked by deserialising it; most members are not read afterwards"
)]
mod schema;
mod sentinel;
mod server;
pub mod stage;
mod state_guard;
mod storage;
mod surveys;
mod temp_urls;
mod time;
mod tokens;
pub mod webhooks;
mod wire;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;

use liveperson_bridge_clock::{SharedClock, ShiftedClock};

pub use behaviour::{Behaviour, ConversationMember, LookupForm, SequenceForm, TokenForm};
pub use conversations::{Consumer, Conversation, Dialog, DialogKind, Event, Stage};
pub use faults::{Answer, Delay, Fault, Reply};
pub use notification::Kind;
pub use operation::Operation;
pub use options::{Credentials, Options};
pub use participant::{Audience, Participant, Role};
pub use recording::RecordedRequest;
pub use schema::event::EventType;
pub use tokens::Error;

use agent::{AnswerQueues, Script};
use conversations::Conversations;
use faults::Faults;
use files::Files;
use recording::Recording;
use reported_states::ReportedStates;
use stage::channel::Callback;
use state_guard::StateGuard;
use temp_urls::TempUrls;
use tokens::Tokens;
use webhooks::Webhooks;
use wire::Wire;

/// A simulated Cloud. Clones share it.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    /// The same clock, as the type that can be advanced.
    shift: Arc<ShiftedClock>,
    options: Options,
    tokens: Tokens,
    temp_urls: TempUrls,
    client: webhooks::Client,
    wire: Wire,
    callback: Callback,
    state: Mutex<State>,
}

/// All state that requests change.
#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    /// The number of openings and SENDs since the last reset. Their data stays until the next one.
    retained_requests: usize,
    recording: Recording,
    faults: Faults,
    conversations: Conversations,
    files: Files,
    reported_states: ReportedStates,
    hooks: Webhooks,
    /// The script by which the agent answers; `None` if no agent answers.
    script: Option<Arc<Script>>,
    answer_queues: AnswerQueues,
}

impl Sandbox {
    /// Creates a Cloud without conversations. It signs tokens and URLs with its own new keys.
    ///
    /// # Errors
    ///
    /// When the keys or the HTTP client cannot be created.
    pub fn new(clock: SharedClock, options: Options) -> Result<Self, Error> {
        let shift = Arc::new(ShiftedClock::new(clock));
        let clock: SharedClock = Arc::clone(&shift) as SharedClock;
        let mut state = State {
            behaviour: options.behaviour.clone(),
            script: options.agent.clone().map(Arc::new),
            ..State::default()
        };
        for webhook in &options.webhooks {
            state.hooks.subscribe(webhook.clone());
        }
        Ok(Self(Arc::new(Shared {
            wire: Wire::new(Arc::clone(&clock)),
            clock,
            shift,
            options,
            tokens: Tokens::generate()?,
            temp_urls: TempUrls::generate()?,
            client: webhooks::Client::new()?,
            callback: Callback::default(),
            state: Mutex::new(state),
        })))
    }

    /// Returns the routes: all services of the Cloud at one address, and the sandbox's own control
    /// API under `/_sandbox/`.
    pub fn router(&self) -> axum::Router {
        server::router(self)
    }

    /// Returns the latest 10,000 requests to the Cloud, in the order of their arrival. Fewer are
    /// kept if their bodies exceed 64 MiB.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state().recording.list()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state().recording.clear();
    }

    /// Returns a copy of every conversation, in the order of their opening.
    #[must_use]
    pub fn conversations(&self) -> Vec<Conversation> {
        self.state().conversations.list()
    }

    /// Returns the content that was uploaded to a file's `relativePath`. Only the latest 64 MiB are
    /// kept.
    #[must_use]
    pub fn file(&self, relative_path: &str) -> Option<Bytes> {
        self.state().files.get(relative_path)?.content.clone()
    }

    /// Closes a conversation from the Cloud's side, without a survey. `by` is the close reason that
    /// the conversation shows, such as `AGENT`.
    ///
    /// Returns true if there was an open conversation with that id.
    #[must_use]
    pub fn close_conversation(&self, id: &str, by: &str) -> bool {
        self.state()
            .conversations
            .get(id)
            .is_some_and(|conversation| conversation.close(by))
    }

    /// Forgets a conversation without a notification, like a Cloud that was set up from scratch.
    ///
    /// Returns true if there was a conversation with that id.
    #[must_use]
    pub fn forget_conversation(&self, id: &str) -> bool {
        self.state().conversations.forget(id)
    }

    /// Revokes every AppJWT issued so far, so that it is refused with error 40102.
    pub fn revoke_app_tokens(&self) {
        self.0.tokens.app.revoke();
    }

    /// Revokes every ConsumerJWS issued so far, so that it is refused with error 40103.
    pub fn revoke_consumer_tokens(&self) {
        self.0.tokens.consumer.revoke();
    }

    /// Injects a fault. It affects the next requests of its operation, once the earlier faults
    /// that match them are used up.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Lists the pending faults, each with its remaining count.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.list()
    }

    /// Withdraws the pending faults. Returns each with its remaining count.
    #[must_use]
    pub fn withdraw_faults(&self) -> Vec<Fault> {
        self.state().faults.withdraw()
    }

    /// Sets the Cloud's behaviour in the points that its documents leave open.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Forgets requests, faults, conversations, files, notifications and the exchanges on the wire.
    /// Keeps tokens, behaviour, subscriptions, the agent's script and the clock.
    pub fn reset(&self) {
        self.0.wire.clear();
        let mut state = self.state();
        let mut hooks = std::mem::take(&mut state.hooks);
        hooks.reset();
        let mut recording = std::mem::take(&mut state.recording);
        recording.clear();
        *state = State {
            behaviour: std::mem::take(&mut state.behaviour),
            script: state.script.take(),
            recording,
            hooks,
            ..State::default()
        };
    }

    /// Ends the streams that follow the wire, since a shutdown would wait for them.
    pub fn end(&self) {
        self.0.wire.end();
    }

    /// Locks the state. It stays consistent when a holder of the lock panics, since each change is
    /// a single step.
    fn state(&self) -> StateGuard<'_> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        StateGuard::new(state, self)
    }
}
