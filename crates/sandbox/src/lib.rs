//! A simulated Conversational Cloud: what tests, the demo and the `sandbox` command speak to instead of the real one.
//!
//! It is a reading of the Cloud's contract of its own: it shares no type with the client, so that a wrong member name
//! in either of them shows as a refused request. Where the real Cloud forgives or ignores what its documents do not
//! allow, the sandbox refuses, and its answer names the member and what was expected.
//!
//! Every request takes one path (`server`): it is recorded, shown on the `wire`, meets the fault that was ordered for
//! it, and is answered by the part that plays that service: `domains`, `sentinel`, `idp`, `messaging`, `monitoring` and
//! `storage`. A new endpoint is a variant of [`Operation`] and a function beside these. All state is in memory,
//! behind one lock that is never held across an `await`; releasing it tells those who subscribed ([`hooks`]) what its
//! holder changed. What is around the Cloud, for people who look on, is the [`stage`].

pub mod agent;
mod announcements;
mod authorization;
mod behaviour;
mod control;
mod conversations;
mod domains;
mod faults;
mod files;
mod guard;
mod held;
mod hex;
pub mod hooks;
mod idp;
mod messaging;
mod monitoring;
mod notification;
mod operation;
mod options;
mod order;
mod page;
mod participant;
mod recording;
mod refusal;
#[expect(
    dead_code,
    reason = "a shape is checked by deserialising it; most members are not read afterwards"
)]
mod schema;
mod sentinel;
mod server;
pub mod stage;
mod storage;
mod surveys;
mod temp_urls;
mod time;
mod tokens;
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
pub use tokens::Error;

use agent::{Hearing, Script};
use announcements::Announcements;
use conversations::Conversations;
use faults::Faults;
use files::Files;
use held::Held;
use hooks::Hooks;
use recording::Recording;
use stage::channel::Callback;
use temp_urls::TempUrls;
use tokens::Tokens;
use wire::Wire;

/// A simulated Cloud; clones share it.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: SharedClock,
    /// The same clock, as it can be moved.
    shift: Arc<ShiftedClock>,
    options: Options,
    tokens: Tokens,
    temp_urls: TempUrls,
    client: hooks::Client,
    wire: Wire,
    callback: Callback,
    state: Mutex<State>,
}

/// Everything that requests change.
#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    /// How many requests may have added something that stays.
    lasting: usize,
    recording: Recording,
    faults: Faults,
    conversations: Conversations,
    files: Files,
    announcements: Announcements,
    hooks: Hooks,
    /// The script by which an agent answers, if one does.
    script: Option<Arc<Script>>,
    hearing: Hearing,
}

impl Sandbox {
    /// A Cloud without conversations, which signs tokens and URLs with keys made for it alone.
    ///
    /// # Errors
    ///
    /// When no keys or no HTTP client could be made.
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
            client: hooks::Client::new()?,
            callback: Callback::default(),
            state: Mutex::new(state),
        })))
    }

    /// All the Cloud's services under one address, and the sandbox's own control under `/_sandbox/`.
    pub fn router(&self) -> axum::Router {
        server::router(self)
    }

    /// The latest 10,000 requests to the Cloud, fewer where their bodies exceed 64 MiB, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state().recording.list()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.state().recording.clear();
    }

    /// A copy of every conversation, in the order of their opening.
    #[must_use]
    pub fn conversations(&self) -> Vec<Conversation> {
        self.state().conversations.list()
    }

    /// What was uploaded to a file's `relativePath`; nothing for files before the latest 64 MiB.
    #[must_use]
    pub fn file(&self, relative_path: &str) -> Option<Bytes> {
        self.state().files.get(relative_path)?.content.clone()
    }

    /// Closes a conversation from the Cloud's side, without a survey; `by` is the reason that it shows, such as `AGENT`.
    ///
    /// Returns whether there was an open one of that id.
    #[must_use]
    pub fn close_conversation(&self, id: &str, by: &str) -> bool {
        self.state()
            .conversations
            .get(id)
            .is_some_and(|conversation| conversation.close(by))
    }

    /// Forgets a conversation without telling anybody, as a Cloud that was set up anew.
    ///
    /// Returns whether there was one of that id.
    #[must_use]
    pub fn forget_conversation(&self, id: &str) -> bool {
        self.state().conversations.forget(id)
    }

    /// Refuses every AppJWT made so far with error 40102.
    pub fn revoke_app_tokens(&self) {
        self.0.tokens.app.revoke();
    }

    /// Refuses every ConsumerJWS made so far with error 40103.
    pub fn revoke_consumer_tokens(&self) {
        self.0.tokens.consumer.revoke();
    }

    /// Has the next requests of the fault's operation answered as it says, after those ordered before it.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// The faults that are still to strike, each with the times that are left of it.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.state().faults.list()
    }

    /// Takes back the faults that have not struck yet, each with the times that were left of it.
    #[must_use]
    pub fn withdraw_faults(&self) -> Vec<Fault> {
        self.state().faults.withdraw()
    }

    /// Chooses anew how the Cloud behaves where its documents leave that open.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// Forgets requests, faults, conversations, files, notifications and what is on the wire; tokens, behaviour, subscriptions,
    /// the agent's script and the clock stay.
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

    /// Ends those who follow the wire, since a stop would wait for them.
    pub fn end(&self) {
        self.0.wire.end();
    }

    /// The state stays consistent when a holder of the lock panics, since each change is a single step.
    fn state(&self) -> Held<'_> {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        Held::new(state, self)
    }
}
