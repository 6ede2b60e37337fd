//! Requests whose answer is a promise: done at once where that goes, else kept and done later, in the order of the user's.
//!
//! A request without any that wait before it is tried at once, with nothing written down unless it bears a key. Only when the Cloud cannot take it
//! in time, or does not say whether it has, is it kept. What another try cannot mend is refused as it always was.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::bytes::Bytes;

use super::files::Attachment;
use super::idempotency::Claimed;
use super::messages::{Choice, Content, SentFile};
use super::outcomes::Later;
use super::schedule;
use super::session::Session;
use super::takeoff::Noted;
use crate::bounds::Exhausted;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{
    self, Flight, Keeping, Lease, NewRequest, Report, RequestKind, Standing, UserRef,
};
use crate::types::conversation::Opening;
use crate::types::file::FileId;
use crate::types::ids::{ConversationId, UserId, UserKey};
use crate::types::message::{MessageId, Pieces, ReceiptStatus, Sequence};
use crate::types::profile;
use crate::types::rating::Rating;

/// 5 s: how long a channel waits for the Cloud unless it says otherwise.
const USUAL_WAIT: Duration = Duration::from_secs(5);

/// 2 s: how long a channel still waits for the Cloud once the service is stopping. Nearly all answers come within that.
const WAIT_AT_STOP: Duration = Duration::from_secs(2);

/// 24 h: how old a request may grow before it is given up.
const LIFE: TimeDelta = TimeDelta::hours(24);

/// 256 MiB: what the kept files of one channel may weigh.
const MAX_CONTENT: usize = 256 * 1024 * 1024;

/// 32 MiB: those of one user.
const MAX_CONTENT_OF_USER: usize = 32 * 1024 * 1024;

/// How long whoever asks waits for the Cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For so long; then the request is queued.
    pub wait: Duration,
    /// Not at all: the request is queued at once.
    pub at_once: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            wait: USUAL_WAIT,
            at_once: false,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone)]
pub enum Outcome<T> {
    /// The Cloud has done it.
    Done(T),
    /// It is kept, and done as soon as it can be.
    Queued(Queued),
}

impl<T> Outcome<T> {
    /// The same with something else in it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Outcome<U> {
        match self {
            Self::Done(done) => Outcome::Done(change(done)),
            Self::Queued(queued) => Outcome::Queued(queued),
        }
    }
}

/// A request that is kept.
#[derive(Debug, Clone)]
pub struct Queued {
    /// The bridge's name for it.
    pub id: MessageId,
    /// Whose it is.
    pub user_id: UserId,
    /// The conversation that it is for, where one is open.
    pub conversation_id: Option<ConversationId>,
    /// When the bridge received it.
    pub created_at: DateTime<Utc>,
}

/// What is to be done, as it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Work {
    /// A text, in the pieces that it is sent in.
    Text {
        pieces: Pieces,
        reply_to: Option<Choice>,
        open: Option<Box<Opening>>,
    },
    /// A file, whose bytes are kept beside this.
    File(Attachment),
    /// Receipts for messages of a dialog.
    Receipts {
        dialog_id: Option<String>,
        status: ReceiptStatus,
        sequences: Vec<Sequence>,
    },
    /// The close of whatever conversation is open.
    Close { survey: bool },
    /// A rating of the latest conversation.
    Rating(Rating),
}

impl Work {
    fn kind(&self) -> RequestKind {
        match self {
            Self::Text { .. } => RequestKind::Text,
            Self::File(_) => RequestKind::File,
            Self::Receipts { .. } => RequestKind::Receipts,
            Self::Close { .. } => RequestKind::Close,
            Self::Rating(_) => RequestKind::Rating,
        }
    }

    /// The work as it is kept.
    #[expect(
        clippy::expect_used,
        reason = "the members are texts, numbers and lists of them"
    )]
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("work is JSON")
    }

    /// The work that was kept as this text; `None` if this version cannot read it.
    pub(super) fn from_json(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().or_else(|| {
            let mut kept: Value = serde_json::from_str(text).ok()?;
            profile::remove_impossible_days(kept.pointer_mut("/text/open/profile")?);
            serde_json::from_value(kept).ok()
        })
    }

    /// A file's bytes.
    pub(super) fn content(&self) -> Option<&Bytes> {
        match self {
            Self::File(file) => Some(&file.content),
            _ => None,
        }
    }

    /// How many messages it is sent as.
    pub(super) fn parts(&self) -> usize {
        match self {
            Self::Text { pieces, .. } => pieces.as_slice().len(),
            Self::File(_) => 1,
            Self::Receipts { .. } | Self::Close { .. } | Self::Rating(_) => 0,
        }
    }
}

/// A request while it is worked on.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: MessageId,
    pub(super) created_at: DateTime<Utc>,
    pub(super) work: Work,
    /// The Cloud's numbers of what was sent of it.
    pub(super) sent: Vec<Sequence>,
    pub(super) conversation_id: Option<ConversationId>,
    pub(super) file: Option<SentFile>,
}

/// A try of a request.
pub(super) struct Attempt<'a> {
    pub(super) caller: &'a Caller,
    pub(super) key: &'a UserKey,
    pub(super) until: Instant,
    /// The lane that it is made on; none for one that is made at once.
    pub(super) held: Option<Held<'a>>,
    /// The session, where nobody had to be asked for it.
    pub(super) session: Option<Session>,
    /// What was written down of it before it began.
    pub(super) noted: Option<Noted>,
    /// What was last on its way to the Cloud.
    pub(super) flight: Option<Flight>,
    /// The Cloud's numbers of what was sent before that.
    pub(super) sent: Vec<Sequence>,
}

/// The lane of a user, held for a request.
#[derive(Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) user: UserRef,
    pub(super) lease: &'a Lease,
    pub(super) id: MessageId,
}

impl Bridge {
    /// A request that was answered before the Cloud had it.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`] where the channel has none such.
    pub async fn request(&self, caller: &Caller, id: MessageId) -> Result<Report, Error> {
        let store = &self.parts.store;
        let report = store.request(&caller.channel.id, id).await?;
        report
            .filter(|report| caller.may_see(&report.user_id))
            .ok_or(Error::MessageNotFound)
    }

    /// Does the work now, or keeps it for later.
    pub(super) async fn submit(
        &self,
        caller: &Caller,
        key: &UserKey,
        mut standing: Option<Standing>,
        work: Work,
        patience: Patience,
    ) -> Result<Outcome<Job>, Error> {
        let open = standing
            .as_ref()
            .and_then(|standing| standing.open.as_ref());
        let conversation_id = open.map(|open| open.id.clone());
        let has_waiting = standing.as_ref().is_some_and(|it| it.waiting > 0);
        let user = standing.as_ref().map(|standing| standing.user);
        let is_kept = patience.at_once || has_waiting;
        // Before anything is changed or sent.
        let (mut session, mut noted, mut holding) = (None, None, None);
        if let Some(claim) = caller.claim.as_deref() {
            let mut intent = None;
            if !is_kept && let Some(foreseen) = self.foresee(key, &mut standing, &work) {
                session = Some(foreseen.session);
                noted = Some(foreseen.noted);
                intent = Some(foreseen.intent);
            }
            let held = self.claim(claim, intent).await?;
            noted = noted.filter(|_| held.noted);
            if held.resumed
                && let Some(kept) = Box::pin(self.take_over(caller, held, key)).await?
            {
                return Ok(Outcome::Queued(kept));
            }
            holding = Some(held);
        }
        let clock = &self.parts.clock;
        let mut job = Job {
            id: holding.map_or_else(|| MessageId::new(clock.uuid()), |held| held.message_id),
            created_at: holding.map_or_else(|| clock.now(), |held| held.created_at),
            work,
            sent: Vec::new(),
            conversation_id,
            file: None,
        };
        if is_kept {
            let kept = Box::pin(self.keep(caller, key, user, &job, None, None)).await?;
            return kept.map(Outcome::Queued);
        }
        let mut attempt = Attempt {
            caller,
            key,
            until: Instant::now() + patience.wait,
            held: None,
            session,
            noted,
            flight: None,
            sent: Vec::new(),
        };
        let Err(error) = self.attempt(&mut attempt, standing, &mut job).await else {
            return Ok(Outcome::Done(job));
        };
        let flight = attempt.flight;
        let Some(later) = Later::of(&error, flight.is_some()) else {
            return Err(job.partly(error));
        };
        let flight = flight.filter(|_| later.is_unknown);
        let kept = self.keep(caller, key, user, &job, Some(&later), flight.as_ref());
        match Box::pin(kept).await {
            Ok(Ok(queued)) => {
                tracing::info!(
                    account.id = %key.account_id,
                    request_id = caller.trace.request_id(),
                    why = later.why,
                    error = &error as &dyn std::error::Error,
                    "a request is queued"
                );
                Ok(Outcome::Queued(queued))
            }
            // Nobody may be asked to send again what may have been sent, but for who does so under its key.
            Err(Error::Store(_)) if later.is_unknown || !job.sent.is_empty() => {
                if let Some(claim) = &caller.claim {
                    claim.leave_open();
                }
                Err(job.partly(error))
            }
            Ok(Err(_no_room)) => Err(job.partly(error)),
            Err(error) => Err(error),
        }
    }

    /// Keeps a job of a user, who may be known already; says why not, where there is no room for it.
    pub(super) async fn keep(
        &self,
        caller: &Caller,
        key: &UserKey,
        mut known: Option<UserRef>,
        job: &Job,
        later: Option<&Later>,
        flight: Option<&Flight>,
    ) -> Result<Result<Queued, Error>, Error> {
        let store = &self.parts.store;
        if !self.has_room(&caller.channel).await? {
            return Ok(Err(Error::QueueFull { of_user: false }));
        }
        let now = self.parts.clock.now();
        let wait = later.filter(|later| !later.is_unknown);
        let wait = wait.map_or(TimeDelta::zero(), |later| {
            schedule::delay(1, later.is_throttled, later.after, &mut rand::rng())
        });
        let claim = caller.claim.as_deref();
        let lease = claim.map(|claim| claim.lease(now));
        let kept = loop {
            let was_known = known.is_some();
            let user = match known.take() {
                Some(user) => user,
                None => store.ensure_user(key, now).await?,
            };
            let attributed = flight.map(|flight| self.recent.of(user, &flight.dialog_id));
            let attributed = attributed.unwrap_or_default();
            let new = NewRequest {
                id: job.id,
                channel_id: &caller.channel.id,
                kind: job.work.kind(),
                body: &job.work.to_json(),
                content: job.work.content(),
                max_content: MAX_CONTENT,
                max_content_of_user: MAX_CONTENT_OF_USER,
                max_waiting: caller.channel.max_queued_per_user,
                created_at: job.created_at,
                expires_at: job.created_at + LIFE,
                conversation_id: job.conversation_id.as_ref(),
                sequences: &job.sent,
                flight,
                why: later.map(|later| later.why),
                due_at: now + wait,
                parent: Some(&caller.trace.parent()),
                attributed: &attributed,
                key: claim.map(Claimed::request).zip(lease.as_ref()),
            };
            let kept = store
                .insert_request(user, &new, now)
                .await
                .inspect_err(|_| {
                    // It may have been kept all the same, where the word of that was lost.
                    if let Some(claim) = claim {
                        claim.leave_open();
                    }
                })?;
            // One who was erased since comes anew.
            if kept != Keeping::UserGone || !was_known {
                break kept;
            }
            // What was sent of it has gone with the conversation.
            if flight.is_some() || !job.sent.is_empty() {
                return Ok(Err(Error::OutOfTime { is_sent: true }));
            }
        };
        match kept {
            Keeping::Kept => {}
            Keeping::QueueFull => return Ok(Err(Error::QueueFull { of_user: true })),
            Keeping::NoRoomForFile { of_user } => {
                let exhausted = if of_user {
                    Exhausted::User
                } else {
                    Exhausted::Channel
                };
                return Ok(Err(Error::TooManyFiles(exhausted)));
            }
            Keeping::KeyLost => return Err(Error::KeyInUse),
            Keeping::UserGone => return Err(store::Error::Contended.into()),
        }
        self.note_queued(&caller.channel);
        self.requests_due.notify_one();
        Ok(Ok(Queued {
            id: job.id,
            user_id: key.user_id.clone(),
            conversation_id: job.conversation_id.clone(),
            created_at: job.created_at,
        }))
    }

    /// The outcome of a part of an attempt; `None` if its time is over. Who waits for it does not wait for much longer once the
    /// service is stopping.
    pub(super) async fn in_time<T>(
        &self,
        attempt: &Attempt<'_>,
        until: Instant,
        part: impl Future<Output = T>,
    ) -> Option<T> {
        let is_waited_for = attempt.held.is_none();
        let stopped = async {
            self.parts.stopping.cancelled().await;
            sleep(WAIT_AT_STOP).await;
        };
        tokio::select! {
            biased;
            outcome = part => Some(outcome),
            () = sleep_until(until) => None,
            () = stopped, if is_waited_for => None,
        }
    }

    /// Tries to do the work, and what has been done of it is noted in the job.
    pub(super) async fn attempt(
        &self,
        attempt: &mut Attempt<'_>,
        standing: Option<Standing>,
        job: &mut Job,
    ) -> Result<(), Error> {
        attempt.flight = None;
        if job.work.parts() > 0 {
            return self.attempt_messages(attempt, standing, job).await;
        }
        let (caller, key) = (attempt.caller, attempt.key);
        // Doing one of these twice does no harm.
        let doing = async {
            match &job.work {
                Work::Receipts {
                    dialog_id,
                    status,
                    sequences,
                } => {
                    let session = self.session_of(&caller.trace, key, standing).await?;
                    let mut session = session
                        .filter(|session| {
                            let current = session.conversation.dialog_id();
                            dialog_id.as_deref().is_none_or(|id| id == current)
                        })
                        .ok_or(Error::NoOpenConversation)?;
                    self.send_receipts_now(&caller.trace, &mut session, *status, sequences)
                        .await
                }
                Work::Close { survey: true } => {
                    self.close_main_dialog_now(&caller.trace, key).await
                }
                Work::Close { survey: false } => {
                    self.close_conversation_now(&caller.trace, key).await
                }
                Work::Rating(rating) => self.rate_now(&caller.trace, key, *rating).await,
                Work::Text { .. } | Work::File(_) => Ok(()),
            }
        };
        let done = self.in_time(attempt, attempt.until, Box::pin(doing)).await;
        done.unwrap_or(Err(Error::OutOfTime { is_sent: false }))
    }

    async fn attempt_messages(
        &self,
        attempt: &mut Attempt<'_>,
        standing: Option<Standing>,
        job: &mut Job,
    ) -> Result<(), Error> {
        let (caller, key) = (attempt.caller, attempt.key);
        let session = if attempt.session.is_some() {
            attempt.session.take()
        } else {
            let session = self.session_of(&caller.trace, key, standing);
            let session = self.in_time(attempt, attempt.until, session).await;
            session.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?
        };
        let mut session = session.filter(Session::takes_messages);
        let defaults = &caller.channel.defaults;
        if let Work::File(file) = &mut job.work {
            let content = Content::File(file);
            let (open, written) = self.deliver(attempt, session, defaults, content).await?;
            job.sent.push(written.sequence);
            job.conversation_id = Some(open.conversation.id);
            job.file = written.file;
            return Ok(());
        }
        let Work::Text {
            pieces,
            reply_to,
            open,
        } = &job.work
        else {
            return Ok(());
        };
        let opening = open.as_deref().unwrap_or(defaults);
        let pieces = pieces.as_slice();
        let done = job.sent.len();
        for (place, text) in pieces.iter().enumerate().skip(done) {
            let content = Content::Text {
                text,
                reply_to: reply_to.as_ref().filter(|_| place == 0),
                work: &job.work,
            };
            let (open, written) = self.deliver(attempt, session, opening, content).await?;
            job.sent.push(written.sequence);
            job.conversation_id = Some(open.conversation.id.clone());
            session = Some(open);
            if place + 1 < pieces.len() {
                Box::pin(self.note_advance(attempt, &job.sent)).await?;
            }
        }
        Ok(())
    }
}

impl Job {
    /// The text that is sent next; none for what is no text.
    pub(super) fn next_text(&self) -> Option<&str> {
        let Work::Text { pieces, .. } = &self.work else {
            return None;
        };
        let next = pieces.as_slice().get(self.sent.len());
        next.map(String::as_str)
    }

    /// The error of a job of which some was sent.
    fn partly(&self, error: Error) -> Error {
        if self.sent.is_empty() {
            return error;
        }
        Error::PartlySent {
            sent: self.sent.clone(),
            of: self.work.parts(),
            cause: Box::new(error),
        }
    }
}

/// A file as it was stored at the Cloud.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Hosted {
    pub(super) relative_path: String,
    #[serde(with = "file_id")]
    pub(super) id: FileId,
}

/// A file's id as text.
mod file_id {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::types::file::FileId;

    pub(super) fn serialize<S: Serializer>(id: &FileId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<FileId, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_whose_profile_a_former_version_has_kept() {
        let kept = |day| {
            let open = format!(r#"{{"profile":{{"birth_date":"{day}"}}}}"#);
            format!(r#"{{"text":{{"pieces":["Hello"],"reply_to":null,"open":{open}}}}}"#)
        };

        for (day, is_left) in [("1815-12-10", true), ("+12345-01-01", false)] {
            let Some(Work::Text { pieces, open, .. }) = Work::from_json(&kept(day)) else {
                panic!("{day} cannot be read");
            };
            assert_eq!(pieces.as_slice(), ["Hello"]);
            let profile = open.unwrap().profile.unwrap();
            assert_eq!(profile.birth_date.is_some(), is_left, "{day}");
        }
        assert!(Work::from_json(r#"{"unheard of":{}}"#).is_none());
    }
}
