//! The order in which changes are translated and their events are delivered.

use std::borrow::Cow;
use std::collections::HashMap;

use super::matching::UnmatchedRow;
use super::{Arrival, Change, DialogPosition, Subject};
use crate::types::trace::TraceContext;

/// A change with the properties that decide its position in the order.
pub(super) struct Candidate<'a> {
    pub(super) account_id: Cow<'a, str>,
    pub(super) subject: Cow<'a, str>,
    /// The dialog that it names in addition to the conversation.
    pub(super) named_dialog: Option<Cow<'a, str>>,
    pub(super) position: Option<DialogPosition>,
    /// True if it says that the conversation is open.
    opens: bool,
    pub(super) content: Content,
}

/// The location of a change's content.
pub(super) enum Content {
    /// Among the arrivals, with this index.
    Arrived(usize),
    /// Here: it was stored as an unmatched change.
    Stored {
        kind: String,
        body: String,
        parent: Option<TraceContext>,
    },
}

impl<'a> Candidate<'a> {
    pub(super) fn stored(row: UnmatchedRow) -> Self {
        Self {
            named_dialog: row.named_dialog().map(|dialog| dialog.to_owned().into()),
            position: row.position(),
            opens: row.opens(),
            account_id: row.account_id.into(),
            subject: row.subject.into(),
            content: Content::Stored {
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
            named_dialog: arrival.named_dialog.as_deref().map(Cow::Borrowed),
            position: arrival.position.clone(),
            opens: arrival.open == Some(true),
            content: Content::Arrived(index),
        }
    }

    /// Returns the change for translation.
    pub(super) fn change(&self) -> Change<'_> {
        match &self.content {
            Content::Arrived(index) => Change::Arrived(*index),
            Content::Stored { kind, body, parent } => Change::Stored {
                kind,
                body,
                parent: parent.as_ref(),
            },
        }
    }

    /// Returns its index among the arrivals; `None` for an unmatched change from earlier.
    pub(super) fn arrived(&self) -> Option<usize> {
        match self.content {
            Content::Arrived(index) => Some(index),
            Content::Stored { .. } => None,
        }
    }

    /// True if it is about this conversation or dialog of this account.
    pub(super) fn is_of(&self, (account_id, subject): &Subject) -> bool {
        self.account_id == *account_id && self.subject == *subject
    }

    fn dialog(&self) -> Option<&str> {
        Some(&self.position.as_ref()?.dialog_id)
    }
}

/// Moves the first change that opens an unknown conversation ahead of the changes that overtook it.
pub(super) fn opening_first(mut indexes: Vec<usize>, changes: &[Candidate<'_>]) -> Vec<usize> {
    let opens = |index: &usize| changes.get(*index).is_some_and(|candidate| candidate.opens);
    if let Some(position) = indexes.iter().position(opens) {
        let opening = indexes.remove(position);
        indexes.insert(0, opening);
    }
    indexes
}

/// Sorts the changes of one conversation for translation. The numbered changes of each dialog
/// exchange their positions so that their sequences ascend. All other changes keep their positions.
pub(super) fn translation_order(indexes: &[usize], changes: &[Candidate<'_>]) -> Vec<usize> {
    let arrived = || {
        let arrived = indexes.iter();
        arrived.filter_map(|index| Some((*index, changes.get(*index)?)))
    };
    let numbered = arrived().filter(|(_, candidate)| candidate.position.is_some());
    let mut sorted: Vec<_> = numbered.collect();
    sorted.sort_by_key(|(_, candidate)| &candidate.position);
    let mut by_dialog = HashMap::new();
    for of_dialog in sorted.chunk_by(|(_, a), (_, b)| a.dialog() == b.dialog()) {
        if let Some(dialog) = of_dialog
            .first()
            .and_then(|(_, candidate)| candidate.dialog())
        {
            by_dialog.insert(dialog, of_dialog.iter().map(|(index, _)| *index));
        }
    }
    let ordered = arrived().map(|(index, candidate)| {
        let dialog = candidate.dialog();
        let next = dialog.and_then(|dialog| by_dialog.get_mut(dialog)?.next());
        next.unwrap_or(index)
    });
    ordered.collect()
}
