//! The lock on the state, whose release notifies subscribers of the changes made under it.

use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

use super::{Sandbox, State, agent, webhooks};

/// The locked state. Its release queues notifications of the changes that its holder made.
#[derive(Debug)]
pub(super) struct StateGuard<'a> {
    state: MutexGuard<'a, State>,
    sandbox: &'a Sandbox,
}

impl<'a> StateGuard<'a> {
    pub(super) fn new(state: MutexGuard<'a, State>, sandbox: &'a Sandbox) -> Self {
        Self { state, sandbox }
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        let now = self.sandbox.0.clock.now();
        let State {
            conversations,
            reported_states,
            hooks,
            script,
            answer_queues,
            ..
        } = &mut *self.state;
        for conversation in conversations.take_possibly_changed() {
            let unreported = reported_states.take_unreported(conversation, now);
            for notification in unreported.notifications() {
                hooks.push(&notification, now);
            }
            for published in unreported.events {
                if let Some(script) = script {
                    agent::queue_for_answer(
                        self.sandbox,
                        script,
                        answer_queues,
                        conversation,
                        published,
                    );
                }
            }
        }
        webhooks::courier::start_missing_couriers(self.sandbox, hooks);
    }
}
