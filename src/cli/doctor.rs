//! `doctor`: checks all that the service needs, a line each.

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use crate::app;
use crate::clock::{Clock as _, SharedClock, SystemClock};
use crate::cloud::Service;
use crate::config::{self, Config};
use crate::http::Proxy;
use crate::store::Store;
use crate::types::trace::Trace;

/// 5 s: what a callback URL may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// The external id of the consumer whose token is asked for; nothing is opened or sent for it.
const CONSUMER: &str = "liveperson-bridge:doctor";

pub(super) async fn run(config: Result<Config, config::Error>) -> anyhow::Result<ExitCode> {
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
    let cloud = app::cloud(&config, &clock, Proxy::Environment)
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
            consumer.map(|_| "made"),
        )?;
    }
    for channel in &config.channels {
        if let Some(callback) = &channel.callback {
            let name = format!("channel {}: callback URL", channel.id);
            report.check(&name, connect(&callback.url).await)?;
        }
    }
    Ok(report.exit_code())
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
