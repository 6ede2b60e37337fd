//! The write-ahead record: the one write before a message is sent, for the task that takes over
//! from a dead process.
//!
//! A request on a lane has the record in its own row. A request that is done at once and has an
//! idempotency key has it in the key's row. If the message is known when the key is claimed, the
//! record is written with the claim, which saves a write. A request that is done at once without a
//! key has no record: if the process dies, its channel gets no answer, and must not send it again.
//!
//! A text that is sent as a choice because the user named it has a record from the claim on. So a
//! retry of it is sent as the same choice, even if the user is offered other choices by then. If a
//! retry takes over a claim without a record, the text was to be sent as the user wrote it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Outbox;
use super::attempt::{Attempt, SendMode};
use super::job::Work;
use crate::bridge::{Caller, Error, KeyClaim, Session};
use crate::store::{
    AttemptOutcome, InFlight, Intent, LEASE, LaneHolder, SettledAttempt, UserRef, WriteAheadRecord,
};
use crate::types::message::{Digest, Sequence};

/// The stored form of the write-ahead record of a request with a key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record<'a> {
    /// A message, or a part of one.
    Message {
        work: Cow<'a, Work>,
        /// The sequences of the parts before it.
        sent: Cow<'a, [Sequence]>,
        in_flight: Cow<'a, InFlight>,
    },
    /// A text that is sent as a choice, before any of it is in flight.
    Decided { work: Cow<'a, Work> },
    /// A passed-through request. None of the Cloud's notifications can be attributed to it.
    Raw,
}

impl Record<'_> {
    #[expect(
        clippy::expect_used,
        reason = "the members are strings, numbers and lists of these"
    )]
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is JSON")
    }
}

/// Returns the record of a text, to be stored when its key is claimed.
pub(super) fn intent(user: UserRef, work: &Work, in_flight: &InFlight) -> Intent {
    let record = Record::Message {
        work: Cow::Borrowed(work),
        sent: Cow::Borrowed(&[]),
        in_flight: Cow::Borrowed(in_flight),
    };
    Intent {
        user,
        body: record.to_json(),
    }
}

/// Returns the record of a text that is sent as a choice, to be stored when its key is claimed.
pub(super) fn decision(user: UserRef, work: &Work) -> Intent {
    Intent {
        user,
        body: decided(work).to_json(),
    }
}

fn decided(work: &Work) -> Record<'_> {
    Record::Decided {
        work: Cow::Borrowed(work),
    }
}

/// A record that was stored when the key was claimed.
pub(super) struct Recorded {
    pub(super) user: UserRef,
    pub(super) in_flight: InFlight,
}

impl Recorded {
    /// True if this is the message that is about to be sent, and the lease on the key has not
    /// expired. Otherwise a new record is written, which makes sure that the key is still held.
    fn matches(&self, user: UserRef, in_flight: &InFlight) -> bool {
        let recorded = &self.in_flight;
        self.user == user
            && recorded.conversation_id == in_flight.conversation_id
            && recorded.dialog_id == in_flight.dialog_id
            && recorded.digest == in_flight.digest
            && in_flight.begun_at < recorded.begun_at + LEASE
    }
}

impl Outbox {
    /// Describes a message that is about to be sent in the session's dialog.
    pub(super) fn in_flight(&self, session: &Session, digest: Digest) -> InFlight {
        InFlight {
            conversation_id: session.conversation.id.clone(),
            dialog_id: session.conversation.dialog_id().to_owned(),
            digest: digest.into(),
            begun_at: self.bridge.parts.clock.now(),
        }
    }

    /// Records a message that is about to be sent, unless `recorded` is its record. Returns the
    /// message as recorded.
    pub(super) async fn record(
        &self,
        attempt: &Attempt<'_>,
        user: UserRef,
        in_flight: InFlight,
        recorded: Option<Recorded>,
        (work, sent): (&Work, &[Sequence]),
    ) -> Result<InFlight, Error> {
        // A record from the claim is for the first message only. Before a later message, the key
        // may have been lost.
        if let Some(recorded) = recorded.filter(|it| it.matches(user, &in_flight)) {
            return Ok(recorded.in_flight);
        }
        match attempt.mode {
            SendMode::Direct => {}
            SendMode::Keyed(claim) => {
                let record = Record::Message {
                    work: Cow::Borrowed(work),
                    sent: Cow::Borrowed(sent),
                    in_flight: Cow::Borrowed(&in_flight),
                };
                let content = work.content().map(|content| &content[..]);
                self.record_for_key(claim, user, &record, content).await?;
            }
            SendMode::Lane(lane) => {
                let lease = self.bridge.renewed(lane.lease);
                let store = &self.bridge.parts.store;
                let work = work.to_json();
                let begun = store.begin_attempt(lane.user, &lease, lane.id, &work, &in_flight);
                if !Box::pin(begun).await? {
                    return Err(Error::LaneLost);
                }
            }
        }
        Ok(in_flight)
    }

    /// Records that a part of a request was sent and others follow. With a key, that is stored in
    /// the record of the next part.
    pub(super) async fn record_part(
        &self,
        attempt: &Attempt<'_>,
        sent: &[Sequence],
        in_flight: &InFlight,
    ) -> Result<(), Error> {
        let SendMode::Lane(lane) = attempt.mode else {
            return Ok(());
        };
        let settled = SettledAttempt {
            user: lane.user,
            id: lane.id,
            outcome: AttemptOutcome::Advanced,
            conversation_id: None,
            sequences: sent,
            in_flight: Some(in_flight),
            file: None,
            event: None,
        };
        let lease = self.bridge.renewed(lane.lease);
        let store = &self.bridge.parts.store;
        let now = self.bridge.parts.clock.now();
        match store.settle_request(&lease, &settled, now).await? {
            LaneHolder::Kept | LaneHolder::Released => Ok(()),
            LaneHolder::Lost => Err(Error::LaneLost),
        }
    }

    /// Records that a passed-through request is about to be sent, if it has a key.
    ///
    /// If there is a record already, the request is not sent again: it is unknown if the Cloud has
    /// it.
    pub(super) async fn record_passthrough(
        &self,
        caller: &Caller,
        user: UserRef,
    ) -> Result<(), Error> {
        let Some(claim) = caller.claim.as_deref() else {
            return Ok(());
        };
        let held_claim = self.bridge.claim(claim, None).await?;
        if held_claim.write_ahead.is_some() {
            return Err(Error::OutOfTime { is_sent: true });
        }
        self.record_for_key(claim, user, &Record::Raw, None).await
    }

    /// Records a text that is sent as a choice. This is only needed if the key was claimed without
    /// that record.
    pub(super) async fn record_decision(
        &self,
        claim: &KeyClaim,
        user: UserRef,
        work: &Work,
    ) -> Result<(), Error> {
        self.record_for_key(claim, user, &decided(work), None).await
    }

    async fn record_for_key(
        &self,
        claim: &KeyClaim,
        user: UserRef,
        record: &Record<'_>,
        content: Option<&[u8]>,
    ) -> Result<(), Error> {
        let parts = &self.bridge.parts;
        let lease = claim.lease(parts.clock.now());
        let record = record.to_json();
        let recorded =
            parts
                .store
                .record_in_flight(claim.request(), &lease, user, &record, content);
        let is_ours = Box::pin(recorded).await?;
        is_ours.then_some(()).ok_or(Error::KeyInUse)
    }
}

/// Reads the record of a message that was to be sent under a key: the work, the sequences of the
/// parts that were sent, and the part that was in flight, if there was one.
///
/// # Errors
///
/// [`Error::OutOfTime`] if this version cannot read it, since the message may have been sent.
pub(super) fn read_record(
    stored: &WriteAheadRecord,
) -> Result<(Work, Vec<Sequence>, Option<InFlight>), Error> {
    let (work, sent, in_flight) = match serde_json::from_str(&stored.body) {
        Ok(Record::Message {
            work,
            sent,
            in_flight,
        }) => (work, sent.into_owned(), Some(in_flight.into_owned())),
        Ok(Record::Decided { work }) => (work, Vec::new(), None),
        Ok(Record::Raw) | Err(_) => return Err(Error::OutOfTime { is_sent: true }),
    };
    let mut work = work.into_owned();
    if let (Work::File(file), Some(content)) = (&mut work, &stored.content) {
        file.content = content.clone().into();
    }
    Ok((work, sent, in_flight))
}
