//! Preparation of a request from the lookup of its user, without I/O.

use super::Outbox;
use super::job::Work;
use super::record::{Recorded, decision, intent};
use crate::bridge::Session;
use crate::store::{Intent, UserRef, UserState};
use crate::types::ids::UserKey;
use crate::types::message::Digest;

/// A prepared request.
pub(super) struct Prepared {
    pub(super) target: Target,
    /// The record to be stored when the key is claimed: of its first message, or of the choice as
    /// which a text is sent.
    pub(super) record: Option<PreparedRecord>,
}

/// The conversation that a request is for.
pub(super) enum Target {
    /// An open conversation, with the token to write in it.
    Ready(Session),
    /// The looked-up state of the user, perhaps with an open conversation. A token may have to be
    /// requested.
    LookedUp(Option<UserState>),
}

/// A write-ahead record and its stored form.
pub(super) struct PreparedRecord {
    /// The first message; `None` if only a choice is recorded.
    pub(super) recorded: Option<Recorded>,
    pub(super) intent: Intent,
}

impl Prepared {
    /// Returns a request with only the lookup of its user.
    pub(super) fn from_lookup(user_state: Option<UserState>) -> Self {
        Self {
            target: Target::LookedUp(user_state),
            record: None,
        }
    }

    /// Adds the record of the choice as which a text is sent, unless there is a record that
    /// contains it.
    pub(super) fn with_choice(self, user: Option<UserRef>, work: &Work) -> Self {
        let Some(user) = user.filter(|_| self.record.is_none() && work.choice().is_some()) else {
            return self;
        };
        Self {
            record: Some(PreparedRecord {
                recorded: None,
                intent: decision(user, work),
            }),
            ..self
        }
    }
}

impl Outbox {
    /// Prepares a request with a key. For a text that can be sent at once, prepares the session and
    /// the record.
    ///
    /// No other message can be recorded ahead. A choice is sent before its text, and each piece of
    /// a split text has its own record.
    pub(super) fn prepare(
        &self,
        key: &UserKey,
        mut user_state: Option<UserState>,
        work: &Work,
    ) -> Prepared {
        let Work::Text {
            pieces,
            reply_to: None,
            ..
        } = work
        else {
            return Prepared::from_lookup(user_state);
        };
        let [text] = pieces.as_slice() else {
            return Prepared::from_lookup(user_state);
        };
        let Some(session) = self.bridge.ready_session(key, &mut user_state) else {
            return Prepared::from_lookup(user_state);
        };
        let in_flight = self.in_flight(&session, Digest::of_text(text));
        let user = session.user;
        Prepared {
            target: Target::Ready(session),
            record: Some(PreparedRecord {
                intent: intent(user, work, &in_flight),
                recorded: Some(Recorded { user, in_flight }),
            }),
        }
    }
}
