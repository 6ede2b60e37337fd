//! `audit`: prints the newest entries of the audit log, one per line.
//!
//! The newest entry comes last, as in a log. So the latest actions are next to the prompt, and the
//! output of a later run can be appended to that of an earlier one.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use clap::Args;

use crate::app;
use crate::config::Config;
use crate::store::Store;
use crate::types::ids::ChannelId;

/// The options of `audit`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Only entries at this time or later, such as 2026-11-22T08:00:00Z; without it, all stored
    /// entries
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<DateTime<Utc>>,
    /// Only entries of actions with a credential of this channel
    #[arg(long, value_name = "ID", value_parser = channel)]
    channel: Option<ChannelId>,
    /// The maximum number of entries; the newest ones are shown
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=MAX_LIMIT))]
    limit: u32,
    /// Print each entry as a JSON object on one line
    #[arg(long)]
    json: bool,
}

/// A million: more than a person reads, and little enough for memory.
const MAX_LIMIT: i64 = 1_000_000;

pub(super) async fn run(config: &Config, options: &Options) -> anyhow::Result<ExitCode> {
    let store = Store::connect(&app::location(&config.database)).await?;
    let since = options.since.unwrap_or(DateTime::UNIX_EPOCH);
    // One more, to know if there are older ones.
    let records = store
        .recorded_actions(since, options.channel.as_ref(), options.limit + 1)
        .await;
    store.close().await;
    let records =
        records.context("the audit log cannot be read; check that the schema is up to date")?;
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let older = records.len().saturating_sub(limit);
    let mut lines = String::new();
    for record in records.iter().skip(older) {
        let line = if options.json {
            serde_json::to_string(record)?
        } else {
            record.to_string()
        };
        lines.push_str(&line);
        lines.push('\n');
    }
    super::print(&lines)?;
    if older > 0 {
        tracing::warn!("older entries are not shown; a higher --limit shows more");
    }
    Ok(ExitCode::SUCCESS)
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let time = DateTime::parse_from_rfc3339(text);
    time.map(|time| time.to_utc())
        .map_err(|_| "expected an RFC 3339 time such as 2026-11-22T08:00:00Z".to_owned())
}

fn channel(text: &str) -> Result<ChannelId, String> {
    text.parse()
        .map_err(|invalid: crate::types::ids::Invalid| invalid.to_string())
}
