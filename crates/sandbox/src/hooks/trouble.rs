//! Trouble that a test orders for notifications, as the Cloud's documents say that it can happen.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::notification::{Kind, Notification};
use crate::order::read_times;
use crate::participant::Role;

/// An order to deliver notifications otherwise than usual.
///
/// As JSON: `{"trouble": "duplicate", "times": 2, "only": "content"}`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disturbance {
    /// What happens to them.
    pub trouble: Trouble,
    /// How many notifications are struck; one unless said otherwise.
    #[serde(default = "once", deserialize_with = "read_times")]
    pub times: u32,
    /// The only ones that are struck; any unless given.
    #[serde(default)]
    pub only: Option<Kind>,
    /// Only what someone in this part published is struck; anybody's, and states, unless given.
    #[serde(default)]
    pub by: Option<Role>,
}

/// What happens to a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// It comes twice.
    Duplicate,
    /// It is held back until the next one of its conversation has been delivered.
    Reorder,
    /// It is held back until [`Sandbox::release_notifications`](crate::Sandbox::release_notifications).
    Delay,
    /// It never comes.
    Drop,
    /// Its first try bears a signature by another secret.
    BadSignature,
    /// It lacks what the vendor's examples of 2018 lack, such as `conversationId`.
    OldForm,
    /// It comes in one request with the others that are struck, if they are of one `type`.
    Batch,
    /// Each digit of its text is an asterisk, as where an account masks card numbers.
    Mask,
    /// Its text lacks the white space at its ends.
    Trim,
    /// Its text is escaped for HTML.
    Escape,
    /// The lines of its text end otherwise: in CR LF instead of LF, in LF instead of CR LF.
    LineBreaks,
    /// It bears a time 30 s earlier, as of a Cloud whose clock is slow.
    SlowClock,
    /// It bears a time 5 days earlier, as one that somebody has captured and sends again.
    Old,
    /// A signed body with nothing in it comes before it.
    Empty,
    /// Its body begins with a byte order mark.
    ByteOrderMark,
    /// Its body has neither `type` nor `kind`.
    Untyped,
    /// Its `messageAudience` stands in the event, as `audience`.
    AudienceInEvent,
    /// The numbers in its `sequenceList` are text.
    NumbersAsText,
    /// Another state of the same time comes before it, with the user as the only participant; of states alone.
    TwoStates,
}

impl Disturbance {
    /// The next notification meets this trouble.
    #[must_use]
    pub fn next(trouble: Trouble) -> Self {
        Self {
            trouble,
            times: once(),
            only: None,
            by: None,
        }
    }
}

/// The troubles that are still to strike, in the order in which they were ordered.
#[derive(Debug, Default)]
pub(crate) struct Troubles(VecDeque<Disturbance>);

/// A trouble that strikes a notification.
#[derive(Debug, Clone, Copy)]
pub(super) struct Struck {
    pub(super) trouble: Trouble,
    /// Whether it is the last one that this order strikes.
    pub(super) last: bool,
}

impl Troubles {
    pub(crate) fn push(&mut self, disturbance: Disturbance) {
        if disturbance.times > 0 {
            self.0.push_back(disturbance);
        }
    }

    pub(crate) fn list(&self) -> Vec<Disturbance> {
        self.0.iter().copied().collect()
    }

    /// The trouble that strikes a notification, counted off.
    pub(super) fn take(&mut self, notification: &Notification) -> Option<Struck> {
        let strikes = |d: &Disturbance| {
            d.only.is_none_or(|only| only == notification.kind)
                && d.by.is_none_or(|by| Some(by) == notification.by)
        };
        let index = self.0.iter().position(strikes)?;
        let disturbance = self.0.get_mut(index)?;
        disturbance.times -= 1;
        let struck = Struck {
            trouble: disturbance.trouble,
            last: disturbance.times == 0,
        };
        if struck.last {
            self.0.remove(index);
        }
        Some(struck)
    }
}

fn once() -> u32 {
    1
}
