//! `doctor`: checks everything that the service needs, prints one line per check, and says how to
//! fix a failure.

mod alteration;
mod conversation;
mod facts;
mod notifications;
mod observation;
mod openings;
mod report;
mod report_file;
mod wording;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use serde_json::{Value, json};

use crate::clock::{Clock, SharedClock, SystemClock};
use crate::cloud::{self, Consumer, ConsumerToken, Service};
use crate::config::{self, Config};
use crate::http::Proxy;
use crate::store::{self, DatabaseInfo, Store};
use crate::telemetry::metrics::Metrics;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;
use crate::{app, bridge, delivery};
use facts::Fact;
use report::{Report, within};
use report_file::ReportFile;

/// The external id of the consumer whose token is requested. Nothing is opened or sent for it.
const CONSUMER: &str = "liveperson-bridge:doctor";

/// The advice for an operator if files are refused. Source: vendor's Send API examples, section on
/// file sharing.
const FILE_SHARING: &str = "file sharing is refused; ask LivePerson to set the site property messaging.file.sharing.enabled to true";

/// The oldest PostgreSQL version that is still supported. Source: PostgreSQL, "Versioning Policy":
/// 14 ended on 2026-11-12.
const MIN_POSTGRES: i32 = 15;

/// The limit on stored tokens that are opened, for each of three kinds: those sealed with the first
/// key, those sealed with other keys, and those of erased users.
const MAX_TOKENS: u32 = 500;

/// 2 minutes: receivers of signed callbacks tolerate 5 minutes, and their own clocks may be off as
/// well. Source: Standard Webhooks, on timestamps.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::minutes(2);

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
            let hint = "correct it; docs/configuration.md describes each key";
            report.line("configuration", Err::<&str, _>(&error), hint)?;
            return Err(error.into());
        }
    };
    let found = format!(
        "{} account(s), {} channel(s)",
        config.accounts.len(),
        config.channels.len()
    );
    options.conversation.check(&config)?;
    report.line("configuration", Ok::<_, &str>(found), "")?;
    let (database, clock) = match check_database(&config, &mut report).await? {
        Some((engine, clock)) => (Some(engine), clock),
        None => (None, Arc::new(SystemClock) as SharedClock),
    };
    let cloud = app::cloud(&config, &clock, &Metrics::default(), Proxy::Environment)
        .context("the HTTP client could not be created")?;
    let trace = Trace::continue_from(None, None, clock.uuid());
    for account in &config.accounts {
        let context = AccountContext {
            cloud: &cloud,
            clock: &*clock,
            trace: &trace,
            is_embedded: config.database.url.is_none(),
        };
        check_account(&context, &account.account_id, options, &mut report).await?;
    }
    for channel in &config.channels {
        if let Some(callback) = &channel.callback {
            let name = format!("channel {}: callback URL", channel.id);
            let answer = delivery::check(&callback.url, &config.allow_private_callbacks, &trace);
            let answered = within(answer)
                .await
                .map(|status| format!("answers HEAD with {}", status.as_u16()));
            report.check(
                &name,
                answered,
                "check that the URL is right, its server runs and its certificate is valid, and that allow_private_callbacks lists its network if the address is private",
            )?;
        }
    }
    if options.conversation.is_wanted() {
        let checked = conversation::check(
            &config,
            &options.conversation,
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

/// Checks the database. Returns its engine and the server time as a clock.
async fn check_database(
    config: &Config,
    report: &mut Report,
) -> anyhow::Result<Option<(String, SharedClock)>> {
    let connect = async {
        let location = app::location(&config.database);
        let store = match Store::connect(&location).await {
            // The database can be read while the service that owns it is running.
            Err(store::Error::InUse { .. }) => Store::connect_read_only(&location).await?,
            connected => connected?,
        };
        let info = store.inspect().await?;
        let clock = app::Timekeeper::begin(&store).await?.clock();
        Ok::<_, anyhow::Error>((store, info, clock))
    };
    let (store, info, clock) = match within(Box::pin(connect)).await {
        Ok(found) => found,
        Err(error) => {
            let hint = "check that the database runs, that [database] is right, and that it can be reached from here";
            report.check("database", Err::<&str, _>(error), hint)?;
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
        let found = "not checked: a running service owns the database";
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
            "{unopened} of {} stored token(s) cannot be decrypted",
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
    report.check(
        "encryption keys",
        outcome,
        "put the key that encrypted them back into encryption.keys, or let new tokens be requested when they are needed",
    )?;
    Ok(Some((info.engine, clock)))
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

/// The context in which accounts are checked.
struct AccountContext<'a> {
    cloud: &'a cloud::Client,
    clock: &'a dyn Clock,
    trace: &'a Trace,
    is_embedded: bool,
}

async fn check_account(
    context: &AccountContext<'_>,
    id: &AccountId,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    let AccountContext {
        cloud,
        clock,
        trace,
        is_embedded,
    } = *context;
    for service in Service::ALL {
        let domain = within(cloud.find_domain(id, service, trace)).await;
        let hint = "check that account_id and domain_api are right and that the Cloud can be reached from here";
        let fact = Fact::checked("domain", domain, hint)
            .titled(format!("domain of {}", service.name()))
            .with("service", service.name());
        report.of_account(id, fact)?;
    }
    let skew = within(clock_skew(cloud, clock, id, trace)).await;
    let hint = if is_embedded {
        "synchronize the machine's clock with NTP: callback signatures and token lifetimes depend on it"
    } else {
        "synchronize the clock of the database's machine with NTP: callback signatures and token lifetimes depend on it"
    };
    report.of_account(id, Fact::checked("clock", skew, hint))?;
    let credentials = "check that client_id and client_secret are those of the app installation";
    let app_token = within(cloud.check_credentials(id, trace)).await;
    let fact = Fact::checked("app_token_made", app_token.map(|()| "issued"), credentials);
    report.of_account(id, fact.titled("AppJWT"))?;
    let consumer = within(cloud.consumer_token(id, CONSUMER, trace)).await;
    let made = consumer
        .as_ref()
        .map(|_| "issued")
        .map_err(|error| anyhow!("{error:#}"));
    let fact = Fact::checked("consumer_token_made", made, credentials);
    report.of_account(id, fact.titled("ConsumerJWS"))?;
    // Without a consumer's token this cannot be checked. An earlier line has reported that.
    if let Ok(ConsumerToken { token, .. }) = &consumer
        && options.consumer
    {
        let consumer = Consumer { account: id, token };
        let outcome = Box::pin(cloud.check_file_sharing(consumer, trace));
        let outcome = within(async { file_sharing(outcome.await) }).await;
        report.of_account(id, Fact::checked("file_sharing", outcome, ""))?;
    }
    Ok(())
}

/// Compares the service's clock with the Cloud's.
async fn clock_skew(
    cloud: &cloud::Client,
    clock: &dyn Clock,
    id: &AccountId,
    trace: &Trace,
) -> anyhow::Result<String> {
    let before = clock.now();
    let Some(date) = cloud.date(id, trace).await? else {
        return Ok("the Cloud sends no time".to_owned());
    };
    let after = clock.now();
    // The header has whole seconds, and was written at some time between the two.
    let skew = if date < before - TimeDelta::seconds(1) {
        before - date
    } else if date > after {
        after - date
    } else {
        TimeDelta::zero()
    };
    if skew.abs() > MAX_CLOCK_SKEW {
        let direction = direction(skew);
        bail!("{} s {direction} the Cloud's", skew.abs().num_seconds());
    }
    Ok(format!(
        "within {} s of the Cloud's",
        skew.abs().num_seconds() + 1
    ))
}

/// Interprets the Cloud's answer about file sharing.
fn file_sharing(outcome: Result<(), cloud::Error>) -> anyhow::Result<&'static str> {
    match outcome {
        Ok(()) => Ok("the Cloud returns an upload URL"),
        Err(cloud::Error::ConversationClosed) => Ok(
            "not refused, but the Cloud decides only in an open conversation; send a file as a test user to be sure",
        ),
        Err(error @ cloud::Error::Refused { .. }) => Err(error).context(FILE_SHARING),
        Err(error) => Err(error.into()),
    }
}
