//! Changes in the order in which they are told.

use std::borrow::Cow;
use std::collections::HashMap;

use super::matching::KeptRow;
use super::{Arrival, Change, Place, Turn};
use crate::types::trace::Parent;

/// A change with what decides over its place in the order.
pub(super) struct Candidate<'a> {
    pub(super) account_id: Cow<'a, str>,
    pub(super) place: Cow<'a, str>,
    /// The dialog that it names beside the conversation.
    pub(super) side: Option<Cow<'a, str>>,
    pub(super) turn: Option<Turn>,
    /// Whether it says that the conversation is open.
    opens: bool,
    pub(super) matter: Matter,
}

/// Where a change is.
pub(super) enum Matter {
    /// At this place of the arrivals.
    Arrived(usize),
    /// Here; it had been kept.
    Kept {
        kind: String,
        body: String,
        parent: Option<Parent>,
    },
}

impl<'a> Candidate<'a> {
    pub(super) fn kept(row: KeptRow) -> Self {
        Self {
            side: row.side().map(|side| side.to_owned().into()),
            turn: row.turn(),
            opens: row.opens(),
            account_id: row.account_id.into(),
            place: row.place.into(),
            matter: Matter::Kept {
                kind: row.kind,
                body: row.body,
                parent: row.parent.0,
            },
        }
    }

    pub(super) fn fresh(index: usize, arrival: &'a Arrival) -> Self {
        Self {
            account_id: arrival.account_id.as_str().into(),
            place: arrival.place.as_str().into(),
            side: arrival.side.as_deref().map(Cow::Borrowed),
            turn: arrival.turn.clone(),
            opens: arrival.open == Some(true),
            matter: Matter::Arrived(index),
        }
    }

    /// The change, to be translated.
    pub(super) fn change(&self) -> Change<'_> {
        match &self.matter {
            Matter::Arrived(index) => Change::Arrived(*index),
            Matter::Kept { kind, body, parent } => Change::Kept {
                kind,
                body,
                parent: parent.as_ref(),
            },
        }
    }

    /// Its place among the arrivals; none where it had been kept.
    pub(super) fn arrived(&self) -> Option<usize> {
        match self.matter {
            Matter::Arrived(index) => Some(index),
            Matter::Kept { .. } => None,
        }
    }

    /// Whether it is of an account's conversation.
    pub(super) fn is_of(&self, (account_id, place): &Place) -> bool {
        self.account_id == *account_id && self.place == *place
    }

    fn dialog(&self) -> Option<&str> {
        Some(&self.turn.as_ref()?.dialog_id)
    }
}

/// The changes of a conversation that was not known, with the one that opens it before all that overtook it.
pub(super) fn opening_first(mut orders: Vec<usize>, changes: &[Candidate<'_>]) -> Vec<usize> {
    let opens = |order: &usize| changes.get(*order).is_some_and(|candidate| candidate.opens);
    if let Some(place) = orders.iter().position(opens) {
        let opening = orders.remove(place);
        orders.insert(0, opening);
    }
    orders
}

/// The changes of one conversation as they are told: those that have overtaken others of their dialog on the way give
/// them their places back, all others stay where they are.
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
