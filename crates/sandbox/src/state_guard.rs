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
            announcements,
            hooks,
            script,
            hearing,
            ..
        } = &mut *self.state;
        for conversation in conversations.take_possibly_changed() {
            let news = announcements.news(conversation, now);
            for notification in news.notifications() {
                hooks.push(&notification, now);
            }
            for published in news.events {
                if let Some(script) = script {
                    agent::listen(self.sandbox, script, hearing, conversation, published);
                }
            }
        }
        webhooks::courier::start_missing_couriers(self.sandbox, hooks);
    }
}
