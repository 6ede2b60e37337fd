//! The command-line options about a conversation.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::BadUsage;
use crate::config::{Account, Config};
use crate::types::conversation::{RouteId, Routing};
use crate::types::ids::{AccountId, Invalid};

/// The options of the conversation check.
#[derive(Debug, Args)]
#[group(id = "conversation_options")]
pub(in crate::cli::doctor) struct Options {
    #[arg(
        long,
        help = "Open a conversation in each account, send messages as a test consumer, and check that their echoes arrive by webhook; agents see the conversation"
    )]
    conversation: bool,
    #[arg(
        long,
        value_name = "FILE",
        requires = "conversation",
        help = "Write the facts as JSON, without secrets, texts and ids; replaces an earlier report, but no other file"
    )]
    report: Option<PathBuf>,
    /// Open a conversation in this account only
    #[arg(long, value_name = "ID", requires = "conversation", value_parser = account_id)]
    account: Option<AccountId>,
    /// Also open a conversation by this campaign and engagement
    #[arg(
        long,
        value_name = "ID",
        requires_all = ["conversation", "engagement_id"],
        conflicts_with = "skill_id",
        value_parser = route_id
    )]
    campaign_id: Option<RouteId>,
    /// The engagement of the campaign
    #[arg(long, value_name = "ID", requires_all = ["conversation", "campaign_id"], value_parser = route_id)]
    engagement_id: Option<RouteId>,
    /// Also open a conversation for this skill
    #[arg(long, value_name = "ID", requires = "conversation", value_parser = route_id)]
    skill_id: Option<RouteId>,
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "conversation",
        default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=600),
        help = "The time to wait for the echo of a message"
    )]
    pub(super) echo_wait: u16,
}

impl Options {
    /// True if a conversation is to be opened.
    pub(in crate::cli::doctor) fn is_wanted(&self) -> bool {
        self.conversation
    }

    /// Returns the path of the report file.
    pub(in crate::cli::doctor) fn report(&self) -> Option<&PathBuf> {
        self.report.as_ref()
    }

    /// Checks that the options match the configuration.
    pub(in crate::cli::doctor) fn check(&self, config: &Config) -> Result<(), BadUsage> {
        let accounts = &config.accounts;
        if let Some(id) = &self.account {
            let is_known = accounts.iter().any(|account| account.account_id == *id);
            if !is_known {
                let problem = format!("--account: the configuration has no account {id}");
                return Err(BadUsage(problem));
            }
        } else if self.routing().is_some() && accounts.len() > 1 {
            let problem = "--account: required, since the configuration has several accounts; name the one with the campaign or skill";
            return Err(BadUsage(problem.to_owned()));
        }
        Ok(())
    }

    /// Returns the time to wait for an echo.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs(self.echo_wait.into())
    }

    /// Returns the routing for a conversation, if the options name one.
    pub(super) fn routing(&self) -> Option<Routing> {
        match (&self.campaign_id, &self.engagement_id, &self.skill_id) {
            (Some(campaign_id), Some(engagement_id), _) => Some(Routing::Campaign {
                campaign_id: campaign_id.clone(),
                engagement_id: engagement_id.clone(),
            }),
            (_, _, Some(skill_id)) => Some(Routing::Skill {
                skill_id: skill_id.clone(),
            }),
            _ => None,
        }
    }

    /// True if a conversation is to be opened in this account.
    pub(in crate::cli::doctor) fn is_wanted_in(&self, account: &Account) -> bool {
        let only = self.account.as_ref();
        self.conversation && only.is_none_or(|only| *only == account.account_id)
    }
}

fn account_id(text: &str) -> Result<AccountId, String> {
    text.parse().map_err(|invalid: Invalid| invalid.to_string())
}

fn route_id(text: &str) -> Result<RouteId, String> {
    let id = RouteId::try_from(text.to_owned());
    id.map_err(|invalid| invalid.to_string())
}
