//! The order in which changes are translated and their events are delivered.

use std::borrow::Cow;
use std::collections::HashMap;

use super::matching::KeptRow;
use super::{Arrival, Change, DialogPosition, Subject};
use crate::types::trace::TraceContext;

/// A change with the properties that decide its position in the order.
pub(super) struct Candidate<'a> {
    pub(super) account_id: Cow<'a, str>,
    pub(super) subject: Cow<'a, str>,
    /// The dialog that it names in addition to the conversation.
    pub(super) side: Option<Cow<'a, str>>,
    pub(super) turn: Option<DialogPosition>,
    /// True if it says that the conversation is open.
    opens: bool,
    pub(super) matter: Content,
}

/// The location of a change's content.
pub(super) enum Content {
    /// Among the arrivals, with this index.
    Arrived(usize),
    /// Here: it was stored as an unmatched change.
    Kept {
        kind: String,
        body: String,
        parent: Option<TraceContext>,
    },
}

impl<'a> Candidate<'a> {
    pub(super) fn kept(row: KeptRow) -> Self {
        Self {
            side: row.side().map(|side| side.to_owned().into()),
            turn: row.turn(),
            opens: row.opens(),
            account_id: row.account_id.into(),
            subject: row.subject.into(),
            matter: Content::Kept {
                kind: row.kind,
                body: row.body,
                parent: row.parent.0,
            },
        }
    }

    pub(super) fn fresh(index: usize, arrival: &'a Arrival) -> Self {
        Self {
            account_id: arrival.account_id.as_str().into(),
            subject: arrival.subject.as_str().into(),
            side: arrival.side.as_deref().map(Cow::Borrowed),
            turn: arrival.turn.clone(),
            opens: arrival.open == Some(true),
            matter: Content::Arrived(index),
        }
    }

    /// Returns the change for translation.
    pub(super) fn change(&self) -> Change<'_> {
        match &self.matter {
            Content::Arrived(index) => Change::Arrived(*index),
            Content::Kept { kind, body, parent } => Change::Kept {
                kind,
                body,
                parent: parent.as_ref(),
            },
        }
    }

    /// Returns its index among the arrivals; `None` for an unmatched change from earlier.
    pub(super) fn arrived(&self) -> Option<usize> {
        match self.matter {
            Content::Arrived(index) => Some(index),
            Content::Kept { .. } => None,
        }
    }

    /// True if it is about this conversation or dialog of this account.
    pub(super) fn is_of(&self, (account_id, subject): &Subject) -> bool {
        self.account_id == *account_id && self.subject == *subject
    }

    fn dialog(&self) -> Option<&str> {
        Some(&self.turn.as_ref()?.dialog_id)
    }
}

/// Moves the first change that opens an unknown conversation ahead of the changes that overtook it.
pub(super) fn opening_first(mut orders: Vec<usize>, changes: &[Candidate<'_>]) -> Vec<usize> {
    let opens = |order: &usize| changes.get(*order).is_some_and(|candidate| candidate.opens);
    if let Some(subject) = orders.iter().position(opens) {
        let opening = orders.remove(subject);
        orders.insert(0, opening);
    }
    orders
}

/// Sorts the changes of one conversation for translation. The numbered changes of each dialog
/// exchange their positions so that their sequences ascend. All other changes keep their positions.
pub(super) fn in_turn(orders: &[usize], changes: &[Candidate<'_>]) -> Vec<usize> {
    let arrived = || {
        let arrived = orders.iter();
        arrived.filter_map(|order| Some((*order, changes.get(*order)?)))
    };
    let numbered = arrived().filter(|(_, candidate)| candidate.turn.is_some());
    let mut sorted: Vec<_> = numbered.collect();
    sorted.sort_by_key(|(_, candidate)| &candidate.turn);
    let mut by_dialog = HashMap::new();
    for of_dialog in sorted.chunk_by(|(_, a), (_, b)| a.dialog() == b.dialog()) {
        if let Some(dialog) = of_dialog
            .first()
            .and_then(|(_, candidate)| candidate.dialog())
        {
            by_dialog.insert(dialog, of_dialog.iter().map(|(order, _)| *order));
        }
    }
    let told = arrived().map(|(order, candidate)| {
        let dialog = candidate.dialog();
        let next = dialog.and_then(|dialog| by_dialog.get_mut(dialog)?.next());
        next.unwrap_or(order)
    });
    told.collect()
}
