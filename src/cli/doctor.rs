//! `doctor`: checks all that the service needs, a line each.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::app;
use crate::clock::{Clock as _, SharedClock, SystemClock};
use crate::cloud::{self, Consumer, ConsumerToken, Service};
use crate::config::{self, Config};
use crate::http::Proxy;
use crate::store::Store;
use crate::telemetry::metrics::Metrics;
use crate::types::trace::Trace;

/// 5 s: what a callback URL may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The external id of the consumer whose token is asked for; nothing is opened or sent for it.
const CONSUMER: &str = "liveperson-bridge:doctor";

/// What an operator has to have changed where files are refused. Source: vendor's Send API examples, section on file
/// sharing.
const FILE_SHARING: &str = "file sharing is refused; the site property messaging.file.sharing.enabled must be true \
     (LivePerson sets it)";

/// What is checked.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Ask as a test consumer whether the accounts may share files; nothing is opened or uploaded
    #[arg(long)]
    consumer: bool,
}

pub(super) async fn run(
    config: Result<Config, config::Error>,
    options: &Options,
) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            report.line("configuration", Err::<&str, _>(&error))?;
            return Err(error.into());
        }
    };
    let found = format!(
        "{} account(s), {} channel(s)",
        config.accounts.len(),
        config.channels.len()
    );
    report.line("configuration", Ok::<_, &str>(found))?;
    report.check("database", database(&config).await)?;

    let clock: SharedClock = Arc::new(SystemClock);
    let cloud = app::cloud(&config, &clock, &Metrics::default(), Proxy::Environment)
        .context("the HTTP client could not be made")?;
    let trace = Trace::continue_from(None, None, SystemClock.uuid());
    for account in &config.accounts {
        let id = &account.account_id;
        for service in Service::ALL {
            let domain = cloud.find_domain(id, service, &trace).await;
            let name = format!("account {id}: domain of {}", service.name());
            report.check(&name, domain)?;
        }
        let app_token = cloud.check_credentials(id, &trace).await;
        report.check(&format!("account {id}: AppJWT"), app_token.map(|()| "made"))?;
        let consumer = cloud.consumer_token(id, CONSUMER, &trace).await;
        report.check(
            &format!("account {id}: ConsumerJWS"),
            consumer.as_ref().map(|_| "made").map_err(Clone::clone),
        )?;
        // Without a token there is nobody to ask as, which the line before has said.
        if let Ok(ConsumerToken { token, .. }) = &consumer
            && options.consumer
        {
            let consumer = Consumer { account: id, token };
            let name = format!("account {id}: file sharing");
            let outcome = cloud.check_file_sharing(consumer, &trace).await;
            report.check(&name, file_sharing(outcome))?;
        }
    }
    for channel in &config.channels {
        if let Some(callback) = &channel.callback {
            let name = format!("channel {}: callback URL", channel.id);
            report.check(&name, connect(&callback.url).await)?;
        }
    }
    Ok(report.exit_code())
}

/// What the Cloud's answer tells of file sharing.
fn file_sharing(outcome: Result<(), cloud::Error>) -> anyhow::Result<&'static str> {
    match outcome {
        Ok(()) => Ok("the Cloud gives out a URL to upload to"),
        Err(cloud::Error::ConversationClosed) => Ok(
            "not refused, but the Cloud answers in an open conversation alone; send a file as a test user to be sure",
        ),
        Err(error @ cloud::Error::Refused { .. }) => Err(error).context(FILE_SHARING),
        Err(error) => Err(error.into()),
    }
}

async fn database(config: &Config) -> anyhow::Result<&'static str> {
    let store = Store::connect(&app::location(&config.database)).await?;
    let answer = store.ping().await;
    store.close().await;
    answer?;
    Ok(if config.database.url.is_some() {
        "PostgreSQL answers"
    } else {
        "the embedded database answers"
    })
}

async fn connect(url: &Url) -> anyhow::Result<String> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        bail!("it names no host");
    };
    // A host of the form [::1] is looked up without its brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect((host, port)))
        .await
        .context("no connection within 5 s")?
        .context("no connection")?;
    Ok(format!("{} accepts connections", stream.peer_addr()?))
}

/// Prints a line per check, and remembers whether one failed.
#[derive(Default)]
struct Report {
    failed: bool,
}

impl Report {
    fn check<T: Display, E: Into<anyhow::Error>>(
        &mut self,
        name: &str,
        outcome: Result<T, E>,
    ) -> anyhow::Result<()> {
        self.line(name, outcome.map_err(|error| format!("{:#}", error.into())))
    }

    fn line(
        &mut self,
        name: &str,
        outcome: Result<impl Display, impl Display>,
    ) -> anyhow::Result<()> {
        match outcome {
            Ok(found) => super::print(&format!("ok    {name}: {found}\n")),
            Err(error) => {
                self.failed = true;
                super::print(&format!("FAIL  {name}: {error}\n"))
            }
        }
    }

    fn exit_code(&self) -> ExitCode {
        if self.failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
