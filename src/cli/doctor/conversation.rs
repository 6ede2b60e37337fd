//! `doctor --conversation`: goes through a whole conversation in each account, as the bridge would,
//! and prints one fact at a time.
//!
//! The consumer is created for this run only, so no user's data is touched. Even after a failure or
//! a signal, the conversations that were opened are closed at the end.
//!
//! To add a fact:
//!
//! 1. Make the request with [`Walk::call`], in the file for that part of the conversation.
//! 2. Make a [`Fact`] from the outcome, with the data that helps a reader of the report.
//! 3. Print the fact with [`Walk::report_fact`].
//! 4. Describe its line and its members in `docs/first-day.md`.
//! 5. Add a row to `tests/it/doctor_conversation.rs` in which only this fact fails.

mod calls;
mod closing;
mod echo;
mod opening;
mod options;
mod sending;
mod tokens;

use anyhow::bail;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Interrupted;
use super::facts::Fact;
use super::observation::Notifications;
use super::openings::Openings;
use super::report::Report;
use super::wording::Masks;
use crate::clock::SharedClock;
use crate::cloud::{self, Consumer, ConsumerToken, Conversation};
use crate::config::{Account, Config};
use crate::lifecycle::Lifecycle;
use crate::types::conversation::Features;
use crate::types::ids::ConversationId;
use crate::types::trace::Trace;

use calls::{CallResult, Failure, HINT_SEE_ANSWER};
pub(super) use options::Options;

/// Checks these accounts, and the notifications if there is a database. Returns the section of the
/// report about the run itself.
pub(super) async fn check(
    (config, has_database): (&Config, bool),
    (options, accounts): (&Options, &[&Account]),
    (cloud, clock): (&cloud::Client, &SharedClock),
    trace: &Trace,
    report: &mut Report,
) -> anyhow::Result<Value> {
    let life = Lifecycle::until_signal()?;
    let mut notifications = None;
    let mut outcome = None;
    let work = async {
        if has_database {
            match Notifications::begin(config, clock, &life).await {
                Ok(begun) => notifications = Some(begun),
                Err(error) => report.general(Fact::failed(
                    "webhooks",
                    format!("{error:#}"),
                    "free the address, or correct listen and [database]; notifications are not checked",
                ))?,
            }
        }
        let run = Run {
            accounts,
            options,
            cloud,
            clock,
            trace,
            notifications: notifications.as_ref(),
            stopping: life.stopping_token(),
        };
        outcome = Some(Box::pin(run.check(report)).await);
        life.stop();
        anyhow::Ok(())
    };
    let mut result = Ok(());
    let work = async { result = work.await };
    let in_time = life.finish(Box::pin(work)).await;
    let observed = notifications.as_ref().map(Notifications::source_name);
    if let Some(notifications) = notifications {
        notifications.close().await;
    }
    result?;
    let Some(outcome) = outcome.filter(|_| in_time) else {
        bail!("aborted by a second signal; a conversation of the doctor may still be open");
    };
    let is_complete = outcome?;
    Ok(json!({
        "webhooks": observed,
        "echo_wait_s": options.echo_wait,
        "whole": is_complete,
    }))
}

/// A run through the accounts.
struct Run<'a> {
    accounts: &'a [&'a Account],
    options: &'a Options,
    cloud: &'a cloud::Client,
    clock: &'a SharedClock,
    trace: &'a Trace,
    notifications: Option<&'a Notifications>,
    stopping: CancellationToken,
}

impl Run<'_> {
    /// Goes through all accounts, and closes the conversations that were opened. Returns true if
    /// nothing interrupted it.
    async fn check(&self, report: &mut Report) -> anyhow::Result<bool> {
        let mut openings = Openings::default();
        let walked = self.walk_all(&mut openings, report).await;
        // This comes before any output, because the reader of the output may have disconnected.
        let left_open = openings
            .close_all(self.cloud, self.notifications, self.trace)
            .await;
        if let Some(notifications) = self.notifications {
            notifications.end(&openings.conversations()).await;
        }
        let is_complete = match walked {
            Ok(()) => true,
            Err(error) if error.is::<Interrupted>() => {
                let hint = "run doctor again to check the rest";
                report.general(Fact::failed("interrupted", "stopped by a signal", hint))?;
                false
            }
            Err(error) => return Err(error),
        };
        for (account, fact) in left_open {
            report.of_account(&account, fact)?;
        }
        Ok(is_complete)
    }

    async fn walk_all(&self, openings: &mut Openings, report: &mut Report) -> anyhow::Result<()> {
        if let Some(notifications) = self.notifications {
            let fact = Fact::ok("webhooks", notifications.source());
            report.general(fact.with("by", notifications.source_name()))?;
        }
        for &account in self.accounts {
            let mut masks = Masks::default();
            masks.add(account.account_id.as_str());
            masks.add(&account.client_id);
            let walk = Walk {
                run: self,
                account,
                openings: &mut *openings,
                report: &mut *report,
                masks,
            };
            Box::pin(walk.check()).await?;
        }
        Ok(())
    }
}

/// The walk through a conversation of one account.
struct Walk<'a> {
    run: &'a Run<'a>,
    account: &'a Account,
    openings: &'a mut Openings,
    report: &'a mut Report,
    masks: Masks,
}

/// A conversation that the walk has opened.
struct Opened {
    /// The external id of the consumer.
    external_id: String,
    token: ConsumerToken,
    id: ConversationId,
    /// The moment of the opening request.
    begun: Moment,
}

/// A moment by the service's clock and by the clock for timeouts.
#[derive(Debug, Clone, Copy)]
struct Moment {
    ms: i64,
    instant: Instant,
}

impl Opened {
    /// Returns the conversation as the Cloud client takes it.
    fn conversation<'a>(
        &'a self,
        account: &'a Account,
        features: &'a Features,
    ) -> Conversation<'a> {
        Conversation {
            consumer: Consumer {
                account: &account.account_id,
                token: &self.token.token,
            },
            id: &self.id,
            dialog_id: self.id.as_str(),
            features,
            time_limit: None,
        }
    }
}

impl Walk<'_> {
    fn now(&self) -> Moment {
        Moment {
            ms: self.run.clock.now_ms(),
            instant: Instant::now(),
        }
    }

    async fn check(mut self) -> anyhow::Result<()> {
        let routing = self.run.options.routing();
        let Some(opened) = self.open_by(None).await? else {
            // An account may accept only conversations with a routing.
            if routing.is_some()
                && let Some(opened) = self.open_by(routing.as_ref()).await?
            {
                self.check_conversation(&opened).await?;
            }
            return Ok(());
        };
        self.check_conversation(&opened).await?;
        if routing.is_some()
            && let Some(opened) = self.open_by(routing.as_ref()).await?
        {
            self.close("routed_close", &opened).await?;
        }
        Ok(())
    }

    /// Checks a conversation, to its end and after it.
    async fn check_conversation(&mut self, opened: &Opened) -> anyhow::Result<()> {
        self.open_again(opened).await?;
        let sent = Box::pin(self.send_all(opened)).await?;
        Box::pin(self.check_echoes(opened, &sent)).await?;
        Box::pin(self.end(opened)).await
    }
}
