//! The end of a conversation, and the Cloud's answers to requests after it.

use super::{Failure, HINT_SEE_ANSWER, Moment, Opened, Walk};
use crate::cli::doctor::facts::Fact;
use crate::cloud::{self, Content, Signal};
use crate::types::conversation::Features;
use crate::webhooks::wire;

const TEXT_AFTER_CLOSE: &str = "Test message after the end, please ignore it";

impl Walk<'_> {
    pub(super) async fn end(&mut self, opened: &Opened) -> anyhow::Result<()> {
        let begun = self.now();
        if !self.close("close", opened).await? {
            // The close failed, so nothing can be checked after it.
            return Ok(());
        }
        self.check_state_notification("close_notification", opened, begun, |state| state.ended)
            .await?;
        self.close_again(opened).await?;
        self.send_after_the_end(opened).await
    }

    /// Closes the conversation. Returns true if it is closed.
    pub(super) async fn close(
        &mut self,
        key: &'static str,
        opened: &Opened,
    ) -> anyhow::Result<bool> {
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self
            .call(cloud.signal(&conversation, Signal::Close, trace))
            .await?;
        if let Err(Failure::Cloud(cloud::Error::ConversationClosed)) = &call.outcome {
            self.openings.closed(&opened.id);
            let found = format!(
                "already closed by someone else ({})",
                self.answer_text(&call)
            );
            let fact = self.described(Fact::note(key, found), &call);
            self.report_fact(fact)?;
            return Ok(true);
        }
        let closed = self.report_call(key, call, HINT_SEE_ANSWER, |()| "accepted".to_owned())?;
        if closed.is_some() {
            self.openings.closed(&opened.id);
        }
        Ok(closed.is_some())
    }

    async fn close_again(&mut self, opened: &Opened) -> anyhow::Result<()> {
        const KEY: &str = "second_close";
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let call = self
            .call(cloud.signal(&conversation, Signal::Close, trace))
            .await?;
        self.report_expected_refusal(KEY, &call, is_closed, |(), answer_text| {
            Fact::note(KEY, format!("accepted, which is fine ({answer_text})"))
        })
    }

    async fn send_after_the_end(&mut self, opened: &Opened) -> anyhow::Result<()> {
        const KEY: &str = "text_after_close";
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let content = Content::Text(TEXT_AFTER_CLOSE);
        let call = self
            .call(cloud.publish(&conversation, content, None, trace))
            .await?;
        self.report_expected_refusal(KEY, &call, is_closed, |_, answer_text| {
            Fact::failed(
                KEY,
                format!("accepted, although the conversation has ended ({answer_text})"),
                "the bridge relies on a refusal; run doctor again with --report FILE and send the file to the project",
            )
        })
    }

    /// Waits for the notification of a certain state of the conversation, and reports if it
    /// arrived. Times are counted from `since`.
    pub(super) async fn check_state_notification(
        &mut self,
        key: &'static str,
        opened: &Opened,
        since: Moment,
        is_wanted: impl Fn(&wire::conversation::Conversation) -> bool,
    ) -> anyhow::Result<()> {
        let Some(notifications) = self.run.notifications else {
            return Ok(());
        };
        let subject = (&self.account.account_id, &opened.id);
        let until = since.instant + self.wait();
        let find = |arrived: &[super::echo::Arrived]| {
            arrived.iter().find_map(|it| match it.change.content() {
                wire::Content::Conversation(state) if is_wanted(state) => {
                    let members = super::echo::members(it.change.json());
                    Some((it.received_at, members, state.close_reason.clone()))
                }
                _ => None,
            })
        };
        let found = notifications
            .wait(subject, until, &self.run.stopping, find)
            .await?;
        let fact = match found {
            Some((received_at, members, reason)) => {
                let delay = super::echo::delay_ms(since, received_at);
                Fact::ok(key, format!("arrived after {delay} ms"))
                    .with("late_ms", delay)
                    .with("members", members)
                    .with("close_reason", reason)
            }
            None => Fact::failed(
                key,
                format!("did not arrive within {} s", self.wait().as_secs()),
                "check that the app installation's webhooks point to this service for cqm.ExConversationChangeNotification",
            ),
        };
        self.report_fact(fact)
    }
}

/// True if an error says that the conversation has ended.
fn is_closed(error: &cloud::Error) -> bool {
    matches!(error, cloud::Error::ConversationClosed)
}
