//! What is written down before it is sent, so that whoever takes over from a process that died knows what may be at the Cloud:
//! for a request on a lane in its row, for one that bears an idempotency key and is done at once in the key's row. Where it is
//! known as the key is claimed what goes to the Cloud next, it is written down then: one write less before a message is sent.
//!
//! What bears no key and is done at once leaves no trace: its channel has no answer, and may not send it again.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::idempotency::Claimed;
use super::outcomes::Later;
use super::requests::{Attempt, Job, Queued, Work};
use super::session::Session;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{
    Begun, Conclusion, Flight, Hold, Holding, Intent, LEASE, Settled, Standing, UserRef,
};
use crate::types::ids::UserKey;
use crate::types::message::{Digest, Sequence};

/// What was about to be sent for a request with a key, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for a moment, which borrows most of what is in it"
)]
enum Record<'a> {
    /// A message, or a part of one.
    Message {
        work: Cow<'a, Work>,
        /// The Cloud's numbers of the parts before it.
        sent: Cow<'a, [Sequence]>,
        flight: Cow<'a, Flight>,
    },
    /// A request of the channel's own making, which nothing that the Cloud tells can be known to come of.
    Raw,
}

/// A text that goes out as soon as its key is claimed.
pub(super) struct Foreseen {
    /// Where it goes.
    pub(super) session: Session,
    pub(super) noted: Noted,
    /// The same as it is kept.
    pub(super) intent: Intent,
}

/// What was written down as a key was claimed.
pub(super) struct Noted {
    user: UserRef,
    flight: Flight,
}

impl Noted {
    /// Whether this is what is about to be sent, and the key still held, of which a note by itself would make sure.
    fn is_of(&self, user: UserRef, flight: &Flight) -> bool {
        let noted = &self.flight;
        self.user == user
            && noted.conversation_id == flight.conversation_id
            && noted.dialog_id == flight.dialog_id
            && noted.digest == flight.digest
            && flight.begun_at < noted.begun_at + LEASE
    }
}

impl Record<'_> {
    #[expect(
        clippy::expect_used,
        reason = "the members are texts, numbers and lists of them"
    )]
    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a record is JSON")
    }
}

impl Bridge {
    /// What is about to be sent in the session's dialog.
    pub(super) fn flight(&self, session: &Session, digest: Digest) -> Flight {
        Flight {
            conversation_id: session.conversation.id.clone(),
            dialog_id: session.conversation.dialog_id().to_owned(),
            digest: digest.into(),
            begun_at: self.parts.clock.now(),
        }
    }

    /// How a text goes out, where that is known already. What was looked up of its user is used up then.
    pub(super) fn foresee(
        &self,
        key: &UserKey,
        looked_up: &mut Option<Standing>,
        work: &Work,
    ) -> Option<Foreseen> {
        // A choice goes before its text, and of several texts each is a flight of its own.
        let Work::Text {
            pieces,
            reply_to: None,
            ..
        } = work
        else {
            return None;
        };
        let [text] = pieces.as_slice() else {
            return None;
        };
        let session = self.ready_session(key, looked_up)?;
        let flight = self.flight(&session, Digest::of_text(text));
        let record = Record::Message {
            work: Cow::Borrowed(work),
            sent: Cow::Borrowed(&[]),
            flight: Cow::Borrowed(&flight),
        };
        let body = record.to_json();
        let user = session.user;
        Some(Foreseen {
            session,
            noted: Noted { user, flight },
            intent: Intent { user, body },
        })
    }

    /// Writes down what is about to be sent, unless that was done as the key was claimed.
    pub(super) async fn take_off(
        &self,
        attempt: &mut Attempt<'_>,
        user: UserRef,
        flight: Flight,
        work: &Work,
    ) -> Result<(), Error> {
        // It is of the first thing that is sent: before another the key may have been lost.
        if let Some(noted) = attempt.noted.take().filter(|it| it.is_of(user, &flight)) {
            attempt.flight = Some(noted.flight);
            return Ok(());
        }
        if let Some(held) = attempt.held {
            let lease = self.renewed(held.lease);
            let store = &self.parts.store;
            let work = work.to_json();
            let begun = store.begin_try(held.user, &lease, held.id, &work, &flight);
            if !Box::pin(begun).await? {
                return Err(Error::LaneLost);
            }
        } else {
            let record = || Record::Message {
                work: Cow::Borrowed(work),
                sent: Cow::Borrowed(&attempt.sent),
                flight: Cow::Borrowed(&flight),
            };
            self.note_begun(
                attempt.caller,
                user,
                record,
                work.content().map(|content| &content[..]),
            )
            .await?;
        }
        attempt.flight = Some(flight);
        Ok(())
    }

    /// Writes down that a part of a request was sent.
    pub(super) async fn note_advance(
        &self,
        attempt: &mut Attempt<'_>,
        sent: &[Sequence],
    ) -> Result<(), Error> {
        attempt.sent = sent.to_vec();
        // Without a lane it is written down with the next part.
        let Some(held) = attempt.held else {
            return Ok(());
        };
        let settled = Settled {
            user: held.user,
            id: held.id,
            settlement: Conclusion::Advanced,
            conversation_id: None,
            sequences: sent,
            flight: attempt.flight.as_ref(),
            file: None,
            event: None,
        };
        let lease = self.renewed(held.lease);
        let store = &self.parts.store;
        let now = self.parts.clock.now();
        match store.settle_request(&lease, &settled, now).await? {
            Hold::Kept | Hold::Released => Ok(()),
            Hold::Lost => Err(Error::LaneLost),
        }
    }

    /// Writes down that a request of the channel's own making is about to be sent, where it bears a key.
    ///
    /// One that was about to be sent before is not sent again: nobody can tell whether the Cloud has it.
    pub(super) async fn take_off_raw(&self, caller: &Caller, user: UserRef) -> Result<(), Error> {
        let claim = caller.claim.as_deref();
        if claim.is_some_and(Claimed::has_begun) {
            return Err(Error::OutOfTime { is_sent: true });
        }
        self.note_begun(caller, user, || Record::Raw, None).await
    }

    async fn note_begun<'a>(
        &self,
        caller: &Caller,
        user: UserRef,
        record: impl FnOnce() -> Record<'a>,
        content: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(claim) = &caller.claim else {
            return Ok(());
        };
        let lease = claim.lease(self.parts.clock.now());
        let record = record().to_json();
        let store = &self.parts.store;
        let noted = store.note_begun(claim.request(), &lease, user, &record, content);
        let is_ours = Box::pin(noted).await?;
        is_ours.then_some(()).ok_or(Error::KeyInUse)
    }

    /// Keeps what a replica may have sent that died over a request, of which this is the repeat.
    pub(super) async fn take_over(
        &self,
        caller: &Caller,
        holding: &Holding,
        key: &UserKey,
    ) -> Result<Option<Queued>, Error> {
        let store = &self.parts.store;
        let report = store
            .request(&caller.channel.id, holding.message_id)
            .await?;
        if let Some(report) = report {
            return Ok(Some(Queued {
                id: holding.message_id,
                user_id: key.user_id.clone(),
                conversation_id: report.conversation_id,
                created_at: report.created_at,
            }));
        }
        // One that this version cannot read may have been sent.
        let begun = holding.begun.as_ref().map(read).transpose()?;
        let Some((work, sent, flight)) = begun else {
            return Ok(None);
        };
        let job = Job {
            id: holding.message_id,
            created_at: holding.created_at,
            work,
            sent,
            conversation_id: Some(flight.conversation_id.clone()),
            file: None,
        };
        let kept = self
            .keep(
                caller,
                key,
                None,
                &job,
                Some(&Later::unknown()),
                Some(&flight),
            )
            .await?;
        kept.map(Some)
    }
}

/// What was about to be sent of a message.
fn read(begun: &Begun) -> Result<(Work, Vec<Sequence>, Flight), Error> {
    let record = serde_json::from_str(&begun.body).ok();
    let Some(Record::Message { work, sent, flight }) = record else {
        return Err(Error::OutOfTime { is_sent: true });
    };
    let mut work = work.into_owned();
    if let (Work::File(file), Some(content)) = (&mut work, &begun.content) {
        file.content = content.clone().into();
    }
    Ok((work, sent.into_owned(), flight.into_owned()))
}
