//! The echoes of the messages that were sent, as they arrive by webhook.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::sending::{Message, Sent, SentFile, TAG, TAGGED_TEXT, TEXT};
use super::{Moment, Opened, Walk};
use crate::cli::doctor::alteration::{Alteration, compare};
use crate::cli::doctor::facts::Fact;
pub(super) use crate::cli::doctor::observation::Arrived;
use crate::types::message::Sequence;
use crate::types::rejection::Rejection;
use crate::types::sketch::Sketch;
use crate::webhooks::wire;
use crate::webhooks::wire::message::{Event, MessageContent};

/// 5 s: the lag from which the bridge considers the Cloud's notifications old.
const MAX_SKEW: Duration = Duration::from_secs(5);

/// 4 levels: enough for `result.conversationDetails.dialogs[].state`.
const DEPTH: usize = 4;

/// 200: the limit on names of members in the report.
const MEMBERS: usize = 200;

const HINT_WEBHOOKS: &str = "check that the app installation's webhooks point to https://…/webhooks/<account_id> of this service (a change takes two minutes), that this address can be reached from the internet, and that client_secret is right";

/// The echo of a message of the consumer.
struct Echo {
    message: wire::message::Message,
    members: BTreeSet<String>,
    received_at: DateTime<Utc>,
}

impl Walk<'_> {
    /// Reports the notifications that arrived.
    pub(super) async fn check_echoes(
        &mut self,
        opened: &Opened,
        sent: &Sent,
    ) -> anyhow::Result<()> {
        let Some(notifications) = self.run.notifications else {
            return Ok(());
        };
        let all = [
            sent.text,
            sent.tagged_text,
            sent.file.as_ref().map(|file| file.message),
        ];
        let last = all.into_iter().flatten().map(|it| it.at.instant).max();
        if let Some(last) = last {
            let subject = (&self.account.account_id, &opened.id);
            let until = last + self.wait();
            let find = |arrived: &[Arrived]| {
                let echoes = echoes(arrived, opened);
                // A text may be altered beyond recognition, so its sequence is compared too.
                let has = |sent: Option<Message>, text| {
                    sent.is_none_or(|it| find_text(&echoes, text, it.sequence).is_some())
                };
                let is_complete = has(sent.text, TEXT)
                    && has(sent.tagged_text, TAGGED_TEXT)
                    && sent
                        .file
                        .as_ref()
                        .is_none_or(|it| find_file(&echoes, it).is_some());
                is_complete.then_some(())
            };
            // Anything still missing after the wait is reported below.
            notifications
                .wait(subject, until, &self.run.stopping, find)
                .await?;
        }
        self.check_state_notification("opening_notification", opened, opened.begun, |state| {
            !state.ended
        })
        .await?;
        let subject = (&self.account.account_id, &opened.id);
        let arrived = notifications.arrived(subject.0, subject.1).await?;
        self.report_signature(&arrived)?;
        let echoes = echoes(&arrived, opened);
        let mut has_echo = false;
        if let Some(message) = sent.text {
            let echo = find_text(&echoes, TEXT, message.sequence);
            has_echo = echo.is_some();
            if let Some(echo) = echo {
                self.report_text_echo(echo, message)?;
            } else {
                let account = &self.account.account_id;
                let since = DateTime::from_timestamp_millis(opened.begun.ms);
                let since = since.unwrap_or_default();
                let refused = notifications.refused(account, since).await;
                self.report_missing_echo(&refused)?;
            }
        }
        // If no echo arrived at all, the missing echo of the first text was reported above.
        if let Some(message) = sent.tagged_text {
            let echo = find_text(&echoes, TAGGED_TEXT, message.sequence);
            if has_echo || echo.is_some() {
                self.report_metadata_echo(echo)?;
            }
        }
        if let Some(file) = &sent.file {
            let echo = find_file(&echoes, file);
            if has_echo || echo.is_some() {
                self.report_file_echo(echo, file)?;
            }
        }
        Ok(())
    }

    fn report_signature(&mut self, arrived: &[Arrived]) -> anyhow::Result<()> {
        let forms = arrived.iter().filter_map(|it| it.signed.as_deref());
        let forms: BTreeSet<_> = forms.map(str::to_owned).collect();
        if arrived.is_empty() {
            return Ok(());
        }
        if forms.is_empty() {
            let found = "unknown: a service of an older version received the notifications";
            return self.report_fact(Fact::note("signature", found).with("forms", forms));
        }
        let found = forms.iter().cloned().collect::<Vec<_>>().join(", ");
        self.report_fact(Fact::ok("signature", found).with("forms", forms))
    }

    /// Reports that the echo of the first text is missing, with the reasons for which notifications
    /// were refused meanwhile.
    fn report_missing_echo(&mut self, refused: &[Rejection]) -> anyhow::Result<()> {
        let mut found = format!("did not arrive within {} s", self.wait().as_secs());
        if let Some(reason) = refused.first() {
            found = format!("{found}; notifications arrived but were refused: {reason}");
        }
        let reasons: Vec<_> = refused.iter().map(|reason| reason.as_str()).collect();
        let fact = Fact::failed("echo", found, HINT_WEBHOOKS);
        self.report_fact(fact.with("refused", reasons))
    }

    /// Reports the echo of the first text, with a fact for each property.
    fn report_text_echo(&mut self, echo: &Echo, sent: Message) -> anyhow::Result<()> {
        let delay = delay_ms(sent.at, echo.received_at);
        let fact = Fact::ok("echo", format!("arrived after {delay} ms"))
            .with("late_ms", delay)
            .with("members", &echo.members);
        self.report_fact(fact)?;

        let echoed = text(echo).unwrap_or_default();
        let alteration = compare(TEXT, echoed);
        self.report_fact(alteration_fact(&alteration))?;

        let sequence = echo.message.sequence;
        let is_same = sequence == Some(sent.sequence);
        let found = match sequence {
            Some(_) if is_same => Fact::ok("echo_sequence", "the same as in the answer"),
            Some(other) => Fact::failed(
                "echo_sequence",
                format!("{other}, but {} in the answer", sent.sequence),
                "the bridge distinguishes messages by it; run doctor again with --report FILE and send the file to the project",
            ),
            None => Fact::failed(
                "echo_sequence",
                "missing",
                "the bridge recognizes duplicates by it; run doctor again with --report FILE and send the file to the project",
            ),
        };
        self.report_fact(found.with("same_as_answer", is_same))?;

        let has_id = echo.message.conversation_id.is_some();
        let fact = if has_id {
            Fact::ok("echo_conversation_id", "present")
        } else {
            Fact::note(
                "echo_conversation_id",
                "missing, as in the oldest format; this is fine, the bridge uses the dialog",
            )
        };
        self.report_fact(fact.with("present", has_id))?;
        self.report_fact(time_fact(echo, sent))
    }

    fn report_metadata_echo(&mut self, echo: Option<&Echo>) -> anyhow::Result<()> {
        const KEY: &str = "echo_metadata";
        let Some(echo) = echo else {
            let found = format!(
                "the text with metadata did not arrive within {} s",
                self.wait().as_secs()
            );
            return self.report_fact(Fact::failed(KEY, found, HINT_WEBHOOKS));
        };
        let metadata = echo.message.metadata.clone();
        let items = metadata.map(Vec::from).unwrap_or_default();
        let (kind, id) = TAG;
        let is_same = items.iter().any(|item| {
            item.get("type").is_some_and(|it| it == kind)
                && item.get("id").is_some_and(|it| it == id)
        });
        let fact = match (is_same, items.is_empty()) {
            (true, _) => Fact::ok(KEY, "unchanged"),
            (false, true) => Fact::note(KEY, "missing; this is fine, the bridge does not need it"),
            (false, false) => Fact::note(KEY, "changed; this is fine, the bridge does not need it"),
        };
        self.report_fact(
            fact.with("present", !items.is_empty())
                .with("unaltered", is_same),
        )
    }

    fn report_file_echo(&mut self, echo: Option<&Echo>, file: &SentFile) -> anyhow::Result<()> {
        let fact = match echo {
            Some(echo) => {
                let delay = delay_ms(file.message.at, echo.received_at);
                Fact::ok("echo_of_file", format!("arrived after {delay} ms"))
                    .with("late_ms", delay)
                    .with("members", &echo.members)
            }
            None => Fact::failed(
                "echo_of_file",
                format!("did not arrive within {} s", self.wait().as_secs()),
                HINT_WEBHOOKS,
            ),
        };
        self.report_fact(fact)
    }
}

fn alteration_fact(alteration: &Alteration) -> Fact {
    let kinds = alteration.kinds.join(", ");
    let fact = if alteration.kinds.is_empty() {
        Fact::ok("echo_text", "unchanged")
    } else if alteration.is_recognized {
        Fact::note(
            "echo_text",
            format!("altered ({kinds}); this is fine, the bridge still recognizes it"),
        )
    } else {
        Fact::failed(
            "echo_text",
            format!("altered ({kinds}); the bridge does not recognize it"),
            "if the answer to a message is lost, it may be sent twice; run doctor again with --report FILE and send the file to the project",
        )
    };
    fact.with("altered", &alteration.kinds)
        .with("recognised", alteration.is_recognized)
}

/// Makes the fact about the Cloud's own time of the message.
fn time_fact(echo: &Echo, sent: Message) -> Fact {
    const KEY: &str = "echo_time";
    let Some(at) = echo.message.sent_at else {
        return Fact::note(KEY, "missing; this is fine").with("skew_ms", Value::Null);
    };
    let skew = at.timestamp_millis() - sent.at.ms;
    let max_skew = u64::try_from(MAX_SKEW.as_millis()).unwrap_or(u64::MAX);
    let is_within_skew = skew.unsigned_abs() <= max_skew;
    let fact = if is_within_skew {
        Fact::ok(
            KEY,
            format!("differs by {skew} ms from the service's clock"),
        )
    } else {
        Fact::note(
            KEY,
            format!(
                "differs by {skew} ms from the service's clock; synchronize the machines' clocks with NTP if the line `clock` fails too"
            ),
        )
    };
    fact.with("skew_ms", skew)
}

/// Returns the consumer's messages among the changes that have arrived.
fn echoes(arrived: &[Arrived], opened: &Opened) -> Vec<Echo> {
    let consumer = opened.token.consumer_id.as_str();
    let own = arrived.iter().filter_map(|it| {
        let wire::Content::Message(message) = it.change.content() else {
            return None;
        };
        let is_own =
            it.change.consumer_id().is_some() || message.originator.id.as_deref() == Some(consumer);
        is_own.then(|| Echo {
            message: (**message).clone(),
            members: members(it.change.json()),
            received_at: it.received_at,
        })
    });
    own.collect()
}

fn text(echo: &Echo) -> Option<&str> {
    match &echo.message.event {
        Event::Written(written) => match &written.content {
            MessageContent::Text(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

/// Finds the echo of a text: an exact copy, else one with its sequence, else an altered one.
fn find_text<'a>(echoes: &'a [Echo], sent: &str, sequence: Sequence) -> Option<&'a Echo> {
    let sketch = Sketch::of(sent);
    let texts = || echoes.iter().filter_map(|echo| Some((echo, text(echo)?)));
    let found = texts()
        .find(|(_, text)| *text == sent)
        .or_else(|| texts().find(|(echo, _)| echo.message.sequence == Some(sequence)))
        .or_else(|| texts().find(|(_, text)| Sketch::of(text).may_be_altered_from(&sketch)));
    found.map(|(echo, _)| echo)
}

fn find_file<'a>(echoes: &'a [Echo], sent: &SentFile) -> Option<&'a Echo> {
    echoes.iter().find(|echo| match &echo.message.event {
        Event::Written(written) => matches!(
            &written.content,
            MessageContent::File(file) if file.relative_path == sent.relative_path
        ),
        _ => false,
    })
}

/// Returns the time between a moment and an arrival. The time of arrival may come from another
/// machine's clock, so the result is capped at the time that this process has waited.
pub(super) fn delay_ms(since: Moment, received_at: DateTime<Utc>) -> u64 {
    let waited = u64::try_from(since.instant.elapsed().as_millis()).unwrap_or(u64::MAX);
    let delay = received_at.timestamp_millis().saturating_sub(since.ms);
    u64::try_from(delay).unwrap_or_default().min(waited)
}

/// Returns the names of a change's members. Members of nested objects follow after a dot.
pub(super) fn members(json: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    if let Ok(value) = serde_json::from_str(json) {
        collect_members(&value, "", DEPTH, &mut names);
    }
    names
}

fn collect_members(value: &Value, path: &str, depth: usize, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) if depth > 0 => {
            for (name, value) in members {
                // Names that could be a person's id are left out.
                let is_name =
                    name.len() <= 40 && name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_');
                if is_name && names.len() < MEMBERS {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    collect_members(value, &path, depth - 1, names);
                    names.insert(path);
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_members(item, &format!("{path}[]"), depth, names);
            }
        }
        _ => {}
    }
}
