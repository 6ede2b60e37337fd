//! Disturbances that a test injects into notifications. The Cloud's documents describe them or make
//! them plausible.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::control_request::read_times;
use crate::notification::{Kind, Notification};
use crate::participant::Role;

/// An instruction to deliver notifications differently from usual.
///
/// As JSON: `{"trouble": "duplicate", "times": 2, "only": "content"}`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disturbance {
    /// The kind of disturbance.
    pub trouble: DisturbanceKind,
    /// The number of affected notifications; one by default.
    #[serde(default = "once", deserialize_with = "read_times")]
    pub times: u32,
    /// The only kind of notification that is affected; `None` for all kinds.
    #[serde(default)]
    pub only: Option<Kind>,
    /// The only role whose events are affected; `None` for the events of all roles, and for states.
    #[serde(default)]
    pub by: Option<Role>,
}

/// The kinds of disturbance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisturbanceKind {
    /// A second delivery of the notification.
    Duplicate,
    /// A delay until the next notification of its conversation has been delivered.
    Reorder,
    /// A delay until [`Sandbox::release_notifications`](crate::Sandbox::release_notifications).
    Delay,
    /// A loss: the notification is never sent.
    Drop,
    /// A first attempt whose signature is made with another secret.
    BadSignature,
    /// The form of the vendor's examples of 2018, which lacks members such as `conversationId`.
    OldForm,
    /// One request for all affected notifications of the same `type`.
    Batch,
    /// A text with an asterisk for each digit, as in an account that masks card numbers.
    Mask,
    /// A text without the white space at its ends.
    Trim,
    /// A text that is escaped for HTML.
    Escape,
    /// A text with other line breaks: CR LF instead of LF, or LF instead of CR LF.
    LineBreaks,
    /// A time that is 30 s earlier, as from a Cloud with a slow clock.
    SlowClock,
    /// A time that is 5 days earlier, as in a notification that was captured and is sent again.
    Old,
    /// A signed empty body before the notification.
    Empty,
    /// A byte order mark at the beginning of the body.
    ByteOrderMark,
    /// A body with neither `type` nor `kind`.
    Untyped,
    /// A `messageAudience` within the event, as `audience`.
    AudienceInEvent,
    /// A `sequenceList` with text instead of numbers.
    NumbersAsText,
    /// Another state before the reported one, with the same time and the consumer as the only
    /// participant. Affects states only.
    TwoStates,
}

impl Disturbance {
    /// Creates a disturbance of the next notification.
    #[must_use]
    pub fn next(kind: DisturbanceKind) -> Self {
        Self {
            trouble: kind,
            times: once(),
            only: None,
            by: None,
        }
    }
}

/// The pending disturbances, in the order of their injection.
#[derive(Debug, Default)]
pub(crate) struct Disturbances(VecDeque<Disturbance>);

/// The effect of a disturbance on one notification.
#[derive(Debug, Clone, Copy)]
pub(super) struct AppliedDisturbance {
    pub(super) kind: DisturbanceKind,
    /// True if this is the last notification that the disturbance affects.
    pub(super) last: bool,
}

impl Disturbances {
    pub(crate) fn push(&mut self, disturbance: Disturbance) {
        if disturbance.times > 0 {
            self.0.push_back(disturbance);
        }
    }

    pub(crate) fn list(&self) -> Vec<Disturbance> {
        self.0.iter().copied().collect()
    }

    /// Returns the effect on a notification, if any, and counts the disturbance down.
    pub(super) fn take(&mut self, notification: &Notification) -> Option<AppliedDisturbance> {
        let affects = |d: &Disturbance| {
            d.only.is_none_or(|only| only == notification.kind)
                && d.by.is_none_or(|by| Some(by) == notification.by)
        };
        let index = self.0.iter().position(affects)?;
        let disturbance = self.0.get_mut(index)?;
        disturbance.times -= 1;
        let applied = AppliedDisturbance {
            kind: disturbance.trouble,
            last: disturbance.times == 0,
        };
        if applied.last {
            self.0.remove(index);
        }
        Some(applied)
    }
}

fn once() -> u32 {
    1
}
