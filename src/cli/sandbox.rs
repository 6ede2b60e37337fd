//! `sandbox`: runs the simulated Cloud alone.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use secrecy::SecretString;
use url::Url;

use super::listening::listen;
use crate::app::serve_until;
use crate::clock::SystemClock;
use crate::lifecycle::Lifecycle;
use crate::sandbox::agent::Script;
use crate::sandbox::stage::{self, Bridge, Stage};
use crate::sandbox::webhooks::{self, Algorithm, Retry, Webhook};
use crate::sandbox::{self, Sandbox};
use crate::web::cross_site::HostNames;

/// In seconds: one day, the example in the vendor's documentation of webhooks.
pub(super) const TIME_TO_LIVE: u32 = 86_400;

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1:9400", value_name = "ADDRESS")]
    listen: SocketAddr,
    #[arg(
        long,
        help = "The URL that gets an account's notifications, such as http://127.0.0.1:8080/webhooks/12345678",
        env = "SANDBOX_WEBHOOK_URL",
        value_name = "URL",
        value_parser = webhooks::read_endpoint,
        requires_all = ["account_id", "client_id", "client_secret"]
    )]
    webhook_url: Option<Url>,
    /// The account whose notifications are sent
    #[arg(long, env = "SANDBOX_ACCOUNT_ID", value_name = "ID")]
    account_id: Option<String>,
    /// The client id of the app installation that gets the notifications
    #[arg(long, env = "SANDBOX_CLIENT_ID", value_name = "ID")]
    client_id: Option<String>,
    /// The client secret that signs the notifications; better set in the environment variable
    #[arg(
        long,
        env = "SANDBOX_CLIENT_SECRET",
        value_name = "SECRET",
        hide_env_values = true
    )]
    client_secret: Option<SecretString>,
    #[arg(
        long,
        help = "The bridge that the page calls with the token of a user, such as http://127.0.0.1:8080",
        env = "SANDBOX_BRIDGE_URL",
        value_name = "URL",
        value_parser = stage::read_bridge
    )]
    bridge_url: Option<Url>,
    #[arg(
        long = "host",
        help = "A host name that requests to the page and the control API may use, besides IP addresses and localhost",
        env = "SANDBOX_HOSTS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    hosts: Vec<String>,
    /// Let a scripted agent answer
    #[arg(long)]
    agent: bool,
}

impl Options {
    fn webhook(&self) -> Option<Webhook> {
        Some(Webhook {
            account_id: self.account_id.clone()?,
            client_id: self.client_id.clone()?,
            client_secret: self.client_secret.clone()?,
            url: self.webhook_url.clone()?,
            algorithm: Algorithm::default(),
            retry: Retry::TimeToLive(TIME_TO_LIVE),
        })
    }
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    let webhook = options.webhook();
    let bridge = options.bridge_url.map(|url| Bridge { url });
    let webhook_line = webhook.as_ref().map(|webhook| {
        format!(
            "It notifies {} of what happens in account {}\n",
            webhook.url, webhook.account_id
        )
    });
    let sandbox = Sandbox::new(
        Arc::new(SystemClock),
        sandbox::Options {
            webhooks: webhook.into_iter().collect(),
            hosts: HostNames::new(options.hosts),
            agent: options.agent.then(Script::default),
            stage: Stage { bridge, demo: None },
            ..sandbox::Options::default()
        },
    )?;
    let listener = listen(options.listen, "--listen")?;
    let address = listener.local_addr()?;
    super::print(&format!(
        "The simulated Cloud listens on http://{address}\n\
         It accepts any account, client id and client secret; in bridge.toml: domain_api = \"http://{address}\"\n{}",
        webhook_line.unwrap_or_default()
    ))?;
    let stopping = life.clone();
    let stopped_sandbox = sandbox.clone();
    let stop = async move {
        stopping.stopping().await;
        stopped_sandbox.end();
    };
    let serving = serve_until(listener, (sandbox.router(), None), 0, stop);
    Ok(super::exit_code(life.finish(serving).await))
}
