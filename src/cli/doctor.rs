//! `doctor`: checks everything that the service needs, prints one line per check, and says how to
//! fix a failure.

mod accounts;
mod alteration;
mod callbacks;
mod conversation;
mod facts;
mod notifications;
mod observation;
mod openings;
mod owner;
mod report;
mod report_file;
mod wording;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde_json::{Value, json};

use super::BAD_USAGE;
use crate::clock::{SharedClock, SystemClock};
use crate::config::{self, Config};
use crate::http::Proxy;
use crate::store::{self, DatabaseInfo, Store};
use crate::telemetry::metrics::Metrics;
use crate::types::trace::Trace;
use crate::{app, bridge};
use accounts::AccountContext;
use facts::{Fact, Verdict};
use report::{Report, within};
use report_file::ReportFile;

/// The oldest PostgreSQL version that is still supported. Source: PostgreSQL, "Versioning Policy":
/// 14 ended on 2026-11-12.
const MIN_POSTGRES: i32 = 15;

/// The limit on stored tokens that are opened, for each of three kinds: those sealed with the first
/// key, those sealed with other keys, and those of erased users.
const MAX_TOKENS: u32 = 500;

/// The options of `doctor`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Check with a test consumer if the accounts may share files; nothing is opened or uploaded
    #[arg(long)]
    consumer: bool,
    #[command(flatten)]
    conversation: conversation::Options,
}

/// The error of a run that a signal has stopped.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

pub(super) async fn run(
    config: Result<Config, config::Error>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let file = options.conversation.report();
    let file = file.map(|path| ReportFile::prepare(path)).transpose()?;
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            for problem in error.problems() {
                report.state(Verdict::Failed, "configuration", problem)?;
            }
            let rest = "all other checks, since the configuration failed; docs/configuration.md describes each key";
            report.general(Fact::note("not_checked", rest))?;
            // Its text is printed already.
            return Ok(ExitCode::from(BAD_USAGE));
        }
    };
    let found = format!(
        "{} account(s), {} channel(s)",
        config.accounts.len(),
        config.channels.len()
    );
    options.conversation.check(&config)?;
    report.line("configuration", Ok::<_, &str>(found), "")?;
    let (database, clock) = match check_database(&config, options, &mut report).await? {
        Some((engine, clock)) => (Some(engine), clock),
        None => (None, Arc::new(SystemClock) as SharedClock),
    };
    let cloud = app::cloud(&config, &clock, &Metrics::default(), Proxy::Environment)
        .context("the HTTP client could not be created")?;
    let trace = Trace::continue_from(None, None, clock.uuid());
    let context = AccountContext {
        cloud: &cloud,
        clock: &*clock,
        trace: &trace,
        clock_hint: clock_hint(&config, database.is_some()),
    };
    let mut accounts = Vec::new();
    for account in &config.accounts {
        let is_usable = accounts::check(&context, account, options, &mut report).await?;
        if is_usable && options.conversation.is_wanted_in(account) {
            accounts.push(account);
        }
    }
    callbacks::check(&config, &trace, &mut report).await?;
    if options.conversation.is_wanted() {
        let checked = conversation::check(
            (&config, database.is_some()),
            (&options.conversation, accounts.as_slice()),
            (&cloud, &clock),
            &trace,
            &mut report,
        );
        let run = Box::pin(checked).await?;
        if let Some(file) = file {
            let now = clock.now();
            file.write(&full_report(&report, now, database.as_ref(), &run))?;
        }
    }
    Ok(report.exit_code())
}

/// Builds the report that is written to a file.
fn full_report(
    report: &Report,
    now: DateTime<Utc>,
    database: Option<&String>,
    run: &Value,
) -> Value {
    json!({
        // The version of the format, by which an earlier report is recognized.
        "doctor_report": 1,
        "version": env!("CARGO_PKG_VERSION"),
        "made_at": now.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "database": database,
        "run": run,
        "failed": report.failed(),
        "found": report.facts(),
    })
}

/// Returns the advice about a wrong clock of the service; `None` if it is not known, since it is
/// that of a database that failed.
fn clock_hint(config: &Config, has_database: bool) -> Option<&'static str> {
    match (&config.database.url, has_database) {
        (None, _) => Some(
            "synchronize the machine's clock with NTP: callback signatures and token lifetimes depend on it",
        ),
        (Some(_), true) => Some(
            "synchronize the clock of the database's machine with NTP: callback signatures and token lifetimes depend on it",
        ),
        (Some(_), false) => None,
    }
}

/// Checks the database. Returns its engine and the server time as a clock.
async fn check_database(
    config: &Config,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<Option<(String, SharedClock)>> {
    let connect = async {
        let location = app::location(&config.database);
        let (store, owner) = match Store::connect(&location).await {
            // The database can be read while the service that owns it is running.
            Err(store::Error::InUse { owner, .. }) => {
                (Store::connect_read_only(&location).await?, owner)
            }
            connected => (connected?, None),
        };
        let info = store.inspect().await?;
        let clock = app::Timekeeper::begin(&store).await?.clock();
        Ok::<_, anyhow::Error>((store, owner, info, clock))
    };
    let (store, owner, info, clock) = match within(Box::pin(connect)).await {
        Ok(found) => found,
        Err(error) => {
            report_no_database(config, options, &error, report)?;
            return Ok(None);
        }
    };
    report.check("database", check_version(&info), "upgrade PostgreSQL")?;
    if config.database.url.is_some()
        && let Some(offset) = clock.machine_offset()
    {
        report.general(machine_clock(offset))?;
    }
    if info.is_in_use {
        let trace = Trace::continue_from(None, None, clock.uuid());
        let owner = owner::describe(owner, config.admin_listen, &trace).await;
        let found = format!("not checked: the database is in use by {owner}");
        report.general(Fact::note("writing", found).titled("database: writing"))?;
    } else {
        report.check(
            "database: writing",
            writable(&info),
            "configure the primary, and a role that owns the schema",
        )?;
    }
    report.check(
        "database: schema",
        Ok::<_, anyhow::Error>(schema(&info)),
        "",
    )?;
    let keys = async {
        // A database without the current schema may not have the tables.
        if info.pending > 0 {
            return Ok("not checked until the schema is up to date".to_owned());
        }
        let keyring = &config.encryption.keys;
        let (opened, unopened) = bridge::count_opened(&store, keyring, MAX_TOKENS).await?;
        ensure!(
            unopened == 0,
            "{unopened} of {} stored token(s) cannot be decrypted; put the key that encrypted them back into encryption.keys, or let new tokens be requested when they are needed",
            opened + unopened
        );
        Ok(format!("{opened} stored token(s) can be decrypted"))
    };
    let outcome = within(keys).await;
    let rejections = async {
        // Rejections are recorded only once the schema is up to date.
        if info.pending > 0 {
            return Ok(Vec::new());
        }
        store.rejections().await
    };
    let rejections = within(rejections).await;
    store.close().await;
    notifications::check(config, rejections, clock.now(), report)?;
    report.check("encryption keys", outcome, "")?;
    Ok(Some((info.engine, clock)))
}

/// Reports that the database cannot be used, and the checks that are skipped.
fn report_no_database(
    config: &Config,
    options: &Options,
    error: &anyhow::Error,
    report: &mut Report,
) -> anyhow::Result<()> {
    let hint = match error.downcast_ref::<store::Error>() {
        Some(store::Error::Unavailable(cause)) if cause.advice().is_some() => "",
        // These texts say what to do.
        Some(store::Error::Address | store::Error::Schema { .. }) => "",
        Some(store::Error::Folder { .. }) => {
            "check database.data_dir, and that this user may write there"
        }
        Some(store::Error::Rejected(_)) => {
            "check the schema, and that the role of database.url owns it"
        }
        _ if config.database.url.is_none() => {
            "check database.data_dir, its files and the space on its disk"
        }
        _ => {
            "check that PostgreSQL runs, that database.url is right, and that this machine can reach its host"
        }
    };
    let error = match error.downcast_ref::<store::Error>() {
        // The name of the line says the rest.
        Some(store::Error::Unavailable(cause)) => cause.to_string(),
        _ => format!("{error:#}"),
    };
    report.line("database", Err::<&str, _>(error), hint)?;
    let mut skipped = vec![
        "database: writing",
        "database: schema",
        "notifications",
        "encryption keys",
    ];
    if config.database.url.is_some() {
        skipped.extend(["machine's clock", "clock"]);
    }
    if options.conversation.is_wanted() {
        skipped.push("webhooks");
    }
    report.general(Fact::not_checked(&skipped, "database"))
}

/// Reports how far this machine's clock is from the server time of the database.
fn machine_clock(offset: TimeDelta) -> Fact {
    let key = "machine_clock";
    let seconds = offset.abs().as_seconds_f64();
    let fact = if offset.abs() < app::CLOCK_WRONG_FROM {
        Fact::ok(key, "within 1 s of the database's")
    } else {
        let direction = direction(offset);
        let found = format!(
            "{seconds:.1} s {direction} the database's, which the service follows; synchronize both with NTP: the log and certificates use this machine's clock"
        );
        Fact::note(key, found)
    };
    fact.titled("machine's clock")
        .with("offset_ms", offset.num_milliseconds())
}

fn direction(ahead: TimeDelta) -> &'static str {
    if ahead > TimeDelta::zero() {
        "ahead of"
    } else {
        "behind"
    }
}

fn check_version(info: &DatabaseInfo) -> anyhow::Result<String> {
    if let Some(major) = info.major {
        ensure!(
            major >= MIN_POSTGRES,
            "PostgreSQL {major} is older than {MIN_POSTGRES}"
        );
    }
    Ok(format!("{} answers", info.engine))
}

fn writable(info: &DatabaseInfo) -> anyhow::Result<&'static str> {
    ensure!(info.writable, "writing is not allowed");
    Ok("allowed")
}

/// Describes the schema. Neither pending nor newer migrations prevent a start of the service.
fn schema(info: &DatabaseInfo) -> String {
    match (info.pending, info.newer) {
        (0, 0) => "up to date".to_owned(),
        (0, newer) => {
            format!(
                "up to date; {newer} migration(s) are from a newer version, as after a downgrade"
            )
        }
        (pending, _) => {
            format!(
                "{pending} migration(s) are pending; the next start, or the command migrate, applies them"
            )
        }
    }
}
