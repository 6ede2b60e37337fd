//! An attempt to carry out a request at the Cloud.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::Outbox;
use super::attempt::Attempt;
use super::job::{Attachment, Choice, Job, Progress, SentFile, Work};
use super::prepare::Target;
use super::record::Recorded;
use crate::bridge::retry::{Pause, Verdict};
use crate::bridge::{Error, Joined, OpeningRequest, Session};
use crate::cloud::{self, Signal};
use crate::store::InFlight;
use crate::types::conversation::Opening;
use crate::types::ids::ConversationId;
use crate::types::message::{Digest, Metadata, Sequence};

/// 3: the consecutive conversations that may turn out closed before a message is given up. An agent
/// closes one now and then; an account that closes every new one at once will go on doing so.
const MAX_REPLACEMENTS: u32 = 3;

/// 250 ms: the pause before another attempt at a message that was refused right after the opening.
/// A conversation may not be usable immediately. Source: an older edition of the vendor's API
/// description.
const NEW_CONVERSATION_PAUSE: Duration = Duration::from_millis(250);

/// 250 ms: the minimum time limit of a publish request, even after the attempt's deadline. The
/// attempt also waits this much longer, so that the request's own limit is reached first.
const MIN_PUBLISH_TIME: Duration = Duration::from_millis(250);

/// 2 s: the time that a caller still waits for the Cloud once the service is stopping. Nearly all
/// answers come within it.
const WAIT_AT_STOP: Duration = Duration::from_secs(2);

/// An attempt that has ended, with the progress of its request.
pub(super) struct Attempted {
    pub(super) job: Job,
    pub(super) result: SendResult,
}

/// The result of an attempt. `in_flight` is the message that was last in flight.
pub(super) enum SendResult {
    /// A request that the Cloud has accepted completely.
    Sent { in_flight: Option<InFlight> },
    /// A failure that another attempt would repeat.
    Refused {
        error: Error,
        in_flight: Option<InFlight>,
    },
    /// A request that the Cloud does not have, or only in part; another attempt may succeed.
    NotSent {
        error: Error,
        pause: Pause,
        in_flight: Option<InFlight>,
    },
    /// A message that the Cloud may or may not have.
    Unknown {
        error: Error,
        why: &'static str,
        in_flight: InFlight,
    },
}

/// A step that failed, and the message that was in flight.
struct Failed {
    error: Error,
    in_flight: Option<Box<InFlight>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            in_flight: None,
        }
    }
}

/// The content of one message.
enum Content<'a> {
    Text {
        text: &'a str,
        reply_to: Option<&'a Choice>,
        /// The work that it is a part of.
        work: &'a Work,
        /// The sequences of the parts before it.
        sent: &'a [Sequence],
    },
    File(&'a mut Attachment),
}

/// A message that the Cloud has accepted.
struct Written {
    sequence: Sequence,
    file: Option<SentFile>,
    in_flight: InFlight,
}

impl Outbox {
    /// Attempts a request.
    pub(super) async fn send(
        &self,
        attempt: &Attempt<'_>,
        target: Target,
        recorded: Option<Recorded>,
        mut job: Job,
    ) -> Attempted {
        let outcome = if job.work.parts() > 0 {
            self.send_messages(attempt, target, recorded, &mut job)
                .await
        } else {
            let executing = Box::pin(self.execute(attempt, target, &job.work));
            let outcome = self.run_until(attempt, attempt.deadline, executing).await;
            let outcome = outcome.unwrap_or(Err(Error::OutOfTime { is_sent: false }));
            outcome.map(|()| None).map_err(Failed::from)
        };
        let result = match outcome {
            Ok(in_flight) => SendResult::Sent { in_flight },
            Err(failed) => judge(attempt, failed),
        };
        Attempted { job, result }
    }

    /// Runs a part of an attempt; `None` if `deadline` passes first. Once the service is stopping,
    /// a caller does not wait much longer.
    async fn run_until<T>(
        &self,
        attempt: &Attempt<'_>,
        deadline: Instant,
        part: impl Future<Output = T>,
    ) -> Option<T> {
        let caller_waits = attempt.mode.lane().is_none();
        let stopped = async {
            self.bridge.parts.stopping.cancelled().await;
            sleep(WAIT_AT_STOP).await;
        };
        tokio::select! {
            biased;
            outcome = part => Some(outcome),
            () = sleep_until(deadline) => None,
            () = stopped, if caller_waits => None,
        }
    }

    /// Sends the remaining parts of a message. Returns the last one.
    async fn send_messages(
        &self,
        attempt: &Attempt<'_>,
        target: Target,
        mut recorded: Option<Recorded>,
        job: &mut Job,
    ) -> Result<Option<InFlight>, Failed> {
        let session = match target {
            Target::Ready(session) => Some(session),
            Target::LookedUp(user_state) => {
                let trace = &attempt.caller.trace;
                let session = self.bridge.session_of(trace, attempt.key, user_state);
                let session = self.run_until(attempt, attempt.deadline, session).await;
                session.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?
            }
        };
        let mut session = session.filter(Session::accepts_messages);
        let defaults = &attempt.caller.channel.defaults;
        let Job { work, progress } = job;
        if let Work::File(file) = work {
            let content = Content::File(file);
            let (open, written) = self
                .send_message(attempt, session, defaults, recorded, content)
                .await?;
            progress.sent.push(written.sequence);
            progress.conversation_id = Some(open.conversation.id);
            progress.file = written.file;
            return Ok(Some(written.in_flight));
        }
        let Work::Text {
            pieces,
            reply_to,
            open,
            ..
        } = &*work
        else {
            return Ok(None);
        };
        let opening = open.as_deref().unwrap_or(defaults);
        let pieces = pieces.as_slice();
        let mut last = None;
        for (index, text) in pieces.iter().enumerate().skip(progress.sent.len()) {
            let content = Content::Text {
                text,
                reply_to: reply_to.as_ref().filter(|_| index == 0),
                work,
                sent: &progress.sent,
            };
            let (open, written) = self
                .send_message(attempt, session, opening, recorded.take(), content)
                .await?;
            progress.sent.push(written.sequence);
            progress.conversation_id = Some(open.conversation.id.clone());
            session = Some(open);
            if index + 1 < pieces.len() {
                let recording = self.record_part(attempt, &progress.sent, &written.in_flight);
                Box::pin(recording).await?;
            }
            last = Some(written.in_flight);
        }
        Ok(last)
    }

    /// Sends a message in the open conversation. Opens one if none is open, and replaces one that
    /// the Cloud has closed.
    async fn send_message(
        &self,
        attempt: &Attempt<'_>,
        mut session: Option<Session>,
        opening: &Opening,
        mut recorded: Option<Recorded>,
        mut content: Content<'_>,
    ) -> Result<(Session, Written), Failed> {
        let mut replacements = 0;
        let mut is_checked = false;
        let (session, written) = loop {
            let (mut open, is_new) = if let Some(session) = session.take() {
                (session, false)
            } else {
                let joined = Box::pin(self.open(attempt, opening, None)).await?;
                (joined.session, joined.opened)
            };
            let mut outcome = self
                .write(attempt, &mut open, recorded.take(), &mut content)
                .await;
            if is_new && outcome.as_ref().is_err_and(Failed::is_refusal) {
                sleep(NEW_CONVERSATION_PAUSE).await;
                outcome = self.write(attempt, &mut open, None, &mut content).await;
            }
            match outcome {
                Ok(written) => break (open, written),
                Err(Failed {
                    error: Error::Cloud(cloud::Error::ConversationClosed),
                    ..
                }) if replacements < MAX_REPLACEMENTS => {
                    replacements += 1;
                }
                Err(failed)
                    if !is_new && !is_checked && self.may_have_ended(&failed.error, &open) =>
                {
                    is_checked = true;
                    let doubtful = &open.conversation.id;
                    let Some(joined) = Box::pin(self.check_open(attempt, opening, doubtful)).await
                    else {
                        return Err(failed);
                    };
                    session = Some(joined.session);
                }
                Err(failed) => return Err(failed),
            }
        };
        if session.typing.is_some() {
            Box::pin(self.bridge.end_typing(session.user)).await;
        }
        if attempt.mode.lane().is_none() {
            let dialog_id = session.conversation.dialog_id();
            self.recent.add(session.user, dialog_id, written.sequence);
        }
        Ok((session, written))
    }

    /// Opens a conversation for the user, before the attempt's deadline. `instead_of` is an open
    /// one that may have ended.
    pub(super) async fn open(
        &self,
        attempt: &Attempt<'_>,
        opening: &Opening,
        instead_of: Option<&ConversationId>,
    ) -> Result<Joined, Error> {
        let lane = attempt.mode.lane();
        let opened = Box::pin(self.bridge.open(OpeningRequest {
            caller: attempt.caller,
            key: attempt.key,
            opening,
            instead_of,
            lane,
        }));
        if lane.is_some() {
            return opened.await;
        }
        // The opening goes on, and a request that is queued now is sent in it.
        let opened = self.run_until(attempt, attempt.deadline, opened).await;
        opened.unwrap_or(Err(Error::OutOfTime { is_sent: false }))
    }

    async fn write(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        recorded: Option<Recorded>,
        content: &mut Content<'_>,
    ) -> Result<Written, Failed> {
        match content {
            Content::Text {
                text,
                reply_to,
                work,
                sent,
            } => {
                let metadata = self.write_choice(attempt, session, *reply_to).await?;
                let in_flight = self.in_flight(session, Digest::of_text(text));
                let recording =
                    self.record(attempt, session.user, in_flight, recorded, (work, sent));
                let in_flight = recording.await?;
                let content = cloud::Content::Text(text);
                let published = self.publish(attempt, session, content, metadata).await;
                Written::of(published, None, in_flight)
            }
            Content::File(file) => Box::pin(self.write_file(attempt, session, file)).await,
        }
    }

    /// Sends the choice that a text stands for, unless it is known to be of another dialog. The
    /// Cloud's documentation asks for the choice before the text, and for its metadata with both.
    async fn write_choice<'a>(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        reply_to: Option<&'a Choice>,
    ) -> Result<Option<&'a Metadata>, Error> {
        let Some(Choice {
            sequence,
            metadata,
            dialog_id,
        }) = reply_to
        else {
            return Ok(None);
        };
        let current = session.conversation.dialog_id();
        if dialog_id.as_deref().is_some_and(|id| id != current) {
            return Ok(None);
        }
        let choice = Signal::Choice(*sequence, metadata);
        let sent = self.bridge.signal(&attempt.caller.trace, session, choice);
        let sent = self
            .run_until(attempt, attempt.deadline, Box::pin(sent))
            .await;
        sent.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?;
        Ok(Some(metadata))
    }

    /// Uploads a file to the Cloud, unless that is done, and publishes it in the session's
    /// conversation.
    async fn write_file(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        file: &mut Attachment,
    ) -> Result<Written, Failed> {
        let kind = file.kind()?;
        let hosted = if let Some(hosted) = &file.hosted {
            hosted.clone()
        } else {
            let upload = self.host(attempt.caller, session, kind, &file.content);
            let hosted = self.run_until(attempt, attempt.deadline, upload).await;
            hosted.unwrap_or(Err(Error::OutOfTime { is_sent: false }))?
        };
        file.hosted = Some(hosted.clone());
        let in_flight = self.in_flight(session, Digest::of_file(&hosted.relative_path));
        let work = Work::File(file.clone());
        let recording = self.record(attempt, session.user, in_flight, None, (&work, &[]));
        let in_flight = recording.await?;
        let content = cloud::Content::File(cloud::File {
            relative_path: &hosted.relative_path,
            kind,
            caption: file.caption.as_deref(),
            preview: file.preview.as_deref(),
        });
        let published = self.publish(attempt, session, content, None).await;
        Written::of(published, file.sent(), in_flight)
    }

    /// Publishes a message in the time that remains for the attempt.
    async fn publish(
        &self,
        attempt: &Attempt<'_>,
        session: &mut Session,
        content: cloud::Content<'_>,
        metadata: Option<&Metadata>,
    ) -> Result<Sequence, Error> {
        let remaining = attempt.deadline.saturating_duration_since(Instant::now());
        // On a lane no caller waits, so a publish request has the usual limit.
        let caller_waits = attempt.mode.lane().is_none();
        session.time_limit = caller_waits.then_some(remaining.max(MIN_PUBLISH_TIME));
        let trace = &attempt.caller.trace;
        let published = self.bridge.publish(trace, session, content, metadata);
        let published = self
            .run_until(attempt, attempt.deadline + MIN_PUBLISH_TIME, published)
            .await;
        published.unwrap_or(Err(Error::OutOfTime { is_sent: true }))
    }

    /// Carries out a request that is not a message. Repeating such a request does no harm.
    async fn execute(
        &self,
        attempt: &Attempt<'_>,
        target: Target,
        work: &Work,
    ) -> Result<(), Error> {
        let (trace, key) = (&*attempt.caller.trace, attempt.key);
        match work {
            Work::Receipts {
                dialog_id,
                status,
                sequences,
            } => {
                let session = match target {
                    Target::Ready(session) => Some(session),
                    Target::LookedUp(it) => self.bridge.session_of(trace, key, it).await?,
                };
                let is_current = |session: &Session| {
                    let current = session.conversation.dialog_id();
                    dialog_id.as_deref().is_none_or(|id| id == current)
                };
                let session = session.filter(is_current);
                let mut session = session.ok_or(Error::NoOpenConversation)?;
                let receipts = Signal::Receipts(*status, sequences);
                self.bridge.show(trace, &mut session, receipts).await
            }
            Work::Close { survey: true } => self.bridge.close_main_dialog(trace, key).await,
            Work::Close { survey: false } => self.bridge.close_now(trace, key).await,
            Work::Rating(rating) => self.rate_now(trace, key, *rating).await,
            Work::Text { .. } | Work::File(_) => Ok(()),
        }
    }
}

impl Failed {
    fn is_refusal(&self) -> bool {
        matches!(self.error, Error::Cloud(cloud::Error::Refused { .. }))
    }
}

impl Written {
    /// Combines a message that was in flight with the Cloud's answer.
    fn of(
        published: Result<Sequence, Error>,
        file: Option<SentFile>,
        in_flight: InFlight,
    ) -> Result<Self, Failed> {
        match published {
            Ok(sequence) => Ok(Self {
                sequence,
                file,
                in_flight,
            }),
            Err(error) => Err(Failed {
                error,
                in_flight: Some(Box::new(in_flight)),
            }),
        }
    }
}

/// Returns the result of a failed attempt.
fn judge(attempt: &Attempt<'_>, failed: Failed) -> SendResult {
    let Failed { error, in_flight } = failed;
    let in_flight = in_flight.map(|it| *it);
    let verdict = if attempt.mode.lane().is_some() {
        Verdict::of_stored(&error, in_flight.is_some())
    } else {
        Verdict::of(&error, in_flight.is_some())
    };
    match (verdict, in_flight) {
        (Verdict::Final, in_flight) => SendResult::Refused { error, in_flight },
        (Verdict::Retry(pause), in_flight) => SendResult::NotSent {
            error,
            pause,
            in_flight,
        },
        (Verdict::Unknown(why), Some(in_flight)) => SendResult::Unknown {
            error,
            why,
            in_flight,
        },
        // Nothing was in flight.
        (Verdict::Unknown(why), None) => SendResult::NotSent {
            error,
            pause: Pause::because(why),
            in_flight: None,
        },
    }
}

impl Progress {
    /// Returns the sequence of the first message and those of the further ones; `None` before
    /// anything was sent.
    pub(super) fn sequences(&self) -> Option<(Sequence, Vec<Sequence>)> {
        let (first, further) = self.sent.split_first()?;
        Some((*first, further.to_vec()))
    }
}
