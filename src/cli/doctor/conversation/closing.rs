//! The end of a conversation, and the Cloud's answers to requests after it.

use super::{Failure, HINT_SEE_ANSWER, Moment, Opened, Walk};
use crate::cli::doctor::facts::Fact;
use crate::cloud::{self, Content, Signal};
use crate::types::conversation::Features;
use crate::webhooks::wire;

const CLOSED: &str = "Test message after the end, please ignore it";

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
        let asked = self
            .ask(cloud.signal(&conversation, Signal::Close, trace))
            .await?;
        if let Err(Failure::Cloud(cloud::Error::ConversationClosed)) = &asked.outcome {
            self.openings.closed(&opened.id);
            let found = format!("already closed by someone else ({})", self.told(&asked));
            let fact = self.described(Fact::note(key, found), &asked);
            self.tell(fact)?;
            return Ok(true);
        }
        let closed = self.report_call(key, asked, HINT_SEE_ANSWER, |()| "accepted".to_owned())?;
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
        let asked = self
            .ask(cloud.signal(&conversation, Signal::Close, trace))
            .await?;
        self.report_expected_refusal(KEY, &asked, is_closed, |(), told| {
            Fact::note(KEY, format!("accepted, which is fine ({told})"))
        })
    }

    async fn send_after_the_end(&mut self, opened: &Opened) -> anyhow::Result<()> {
        const KEY: &str = "text_after_close";
        let features = Features::default();
        let conversation = opened.conversation(self.account, &features);
        let (cloud, trace) = (self.run.cloud, self.run.trace);
        let content = Content::Text(CLOSED);
        let asked = self
            .ask(cloud.publish(&conversation, content, None, trace))
            .await?;
        self.report_expected_refusal(KEY, &asked, is_closed, |_, told| {
            Fact::failed(
                KEY,
                format!("accepted, although the conversation has ended ({told})"),
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
        let place = (&self.account.account_id, &opened.id);
        let until = since.instant + self.wait();
        let look = |arrived: &[super::echo::Arrived]| {
            arrived.iter().find_map(|it| match it.change.content() {
                wire::Content::Conversation(state) if is_wanted(state) => {
                    let members = super::echo::members(it.change.json());
                    Some((it.received_at, members, state.close_reason.clone()))
                }
                _ => None,
            })
        };
        let found = notifications
            .wait(place, until, &self.run.stopping, look)
            .await?;
        let fact = match found {
            Some((received_at, members, reason)) => {
                let late = super::echo::late_ms(since, received_at);
                Fact::ok(key, format!("arrived after {late} ms"))
                    .with("late_ms", late)
                    .with("members", members)
                    .with("close_reason", reason)
            }
            None => Fact::failed(
                key,
                format!("did not arrive within {} s", self.wait().as_secs()),
                "check that the app installation's webhooks point to this service for cqm.ExConversationChangeNotification",
            ),
        };
        self.tell(fact)
    }
}

/// True if an error says that the conversation has ended.
fn is_closed(error: &cloud::Error) -> bool {
    matches!(error, cloud::Error::ConversationClosed)
}
