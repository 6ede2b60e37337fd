//! The consumer's actions in a conversation: texts, typing, a file, a receipt.

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{Failure, HINT_SEE_ANSWER, Moment, Opened, Walk};
use crate::cli::doctor::accounts::FILE_SHARING;
use crate::cli::doctor::facts::Fact;
use crate::cloud::{self, Content, File, Signal};
use crate::types::conversation::Features;
use crate::types::file::ImageType;
use crate::types::message::{ChatState, Metadata, ReceiptStatus, Sequence};

/// A text that explains itself to the agent who sees it. The rest of it might be altered on the
/// way: markup, quotes, an emoji, the test number of a payment card, a line break, and white space
/// at the end.
pub(super) const TEXT: &str = "Test message of liveperson-bridge doctor, please ignore it. R&D <b>bold</b> \"double\" 'single' 👍 \
     4111 1111 1111 1111\nsecond line ";

pub(super) const TAGGED_TEXT: &str = "Another test message, with metadata";

/// The metadata of the tagged text.
pub(super) const TAG: (&str, &str) = ("ExternalId", "doctor-1");

/// A PNG of one pixel, in base64.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

/// The messages that were sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) text: Option<Message>,
    pub(super) tagged_text: Option<Message>,
    pub(super) file: Option<SentFile>,
}

/// A message that the Cloud accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message {
    pub(super) at: Moment,
    pub(super) sequence: Sequence,
}

#[derive(Debug)]
pub(super) struct SentFile {
    pub(super) message: Message,
    pub(super) relative_path: String,
}

impl Walk<'_> {
    pub(super) async fn send_all(&mut self, opened: &Opened) -> anyhow::Result<Sent> {
        let text = self.send("text", opened, Content::Text(TEXT), None).await?;
        let metadata = tag()?;
        let content = Content::Text(TAGGED_TEXT);
        let tagged_text = self
            .send("text_with_metadata", opened, content, Some(&metadata))
            .await?;
        for (key, state) in [
            ("typing", ChatState::Composing),
            ("typing_end", ChatState::Pause),
        ] {
            self.signal(key, opened, Signal::ChatState(state)).await?;
        }
        let file = self.send_file(opened).await?;
        if let Some(message) = text {
            self.send_receipt(opened, message.sequence).await?;
        }
        Ok(Sent {
            text,
            tagged_text,
            file,
        })
    }

    async fn send(
        &mut self,
        key: &'static str,
        opened: &Opened,
        content: Content<'_>,
        metadata: Option<&Metadata>,
    ) -> anyhow::Result<Option<Message>> {
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let at = self.now();
        let call = self
            .call(cloud.publish(&conversation, content, metadata, trace))
            .await?;
        let found = |sequence: &Sequence| format!("accepted, with sequence {sequence}");
        let sequence = self.report_call(key, call, HINT_SEE_ANSWER, found)?;
        Ok(sequence.map(|sequence| Message { at, sequence }))
    }

    async fn signal(
        &mut self,
        key: &'static str,
        opened: &Opened,
        signal: Signal<'_>,
    ) -> anyhow::Result<()> {
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self
            .call(cloud.signal(&conversation, signal, trace))
            .await?;
        self.report_call(key, call, HINT_SEE_ANSWER, |()| "accepted".to_owned())?;
        Ok(())
    }

    /// Stores and publishes a picture, if the account shares files.
    async fn send_file(&mut self, opened: &Opened) -> anyhow::Result<Option<SentFile>> {
        const KIND: ImageType = ImageType::Png;
        if !self.account.file_types.contains(&KIND) {
            let fact = Fact::note(
                "file",
                "not checked: the account's file_types does not contain PNG",
            );
            self.report_fact(fact)?;
            return Ok(None);
        }
        let picture = BASE64_STANDARD
            .decode(PICTURE)
            .context("the test picture cannot be decoded")?;
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let picture = picture.into();
        let upload = cloud.upload(&conversation, KIND, &picture, trace);
        let call = self.call(upload).await?;
        let located = call.answers.iter().any(|answer| answer.status < 300);
        if let Err(failure @ Failure::Cloud(cloud::Error::Refused { .. })) = &call.outcome
            && !located
        {
            let found = format!("{FILE_SHARING}: {}", self.failure(failure, &call));
            let fact = self.described(Fact::note("file", found), &call);
            self.report_fact(fact)?;
            return Ok(None);
        }
        let hint =
            "check that the Cloud's file storage (the host of swift) can be reached from here";
        let stored = |_: &String| "stored".to_owned();
        let Some(relative_path) = self.report_call("file", call, hint, stored)? else {
            return Ok(None);
        };
        self.masks.add(&relative_path);
        let file = Content::File(File {
            relative_path: &relative_path,
            kind: KIND,
            caption: None,
            preview: None,
        });
        let message = self.send("file_message", opened, file, None).await?;
        Ok(message.map(|message| SentFile {
            message,
            relative_path,
        }))
    }

    /// Sends a receipt. A receipt belongs to an agent's message, and there is none, so it may be
    /// refused.
    async fn send_receipt(&mut self, opened: &Opened, sequence: Sequence) -> anyhow::Result<()> {
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let sequences = [sequence];
        let receipt = Signal::Receipts(ReceiptStatus::Read, &sequences);
        let call = self
            .call(cloud.signal(&conversation, receipt, trace))
            .await?;
        if let Err(failure @ Failure::Cloud(cloud::Error::Refused { .. })) = &call.outcome {
            let found = format!(
                "refused, since the message is not from an agent: {}",
                self.failure(failure, &call)
            );
            let fact = self.described(Fact::note("receipt", found), &call);
            return self.report_fact(fact);
        }
        self.report_call("receipt", call, HINT_SEE_ANSWER, |()| "accepted".to_owned())?;
        Ok(())
    }
}

fn tag() -> anyhow::Result<Metadata> {
    let (kind, id) = TAG;
    let object: Map<String, Value> = [("type", kind), ("id", id)]
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into_iter()
        .collect();
    Ok(Metadata::try_from(vec![object])?)
}
