//! `demo`: the service, the simulated Cloud with a scripted agent, and one channel in one process,
//! without any configuration.
//!
//! Unless the options say otherwise, everything listens on the loopback address only. No data
//! outlives the process. The simulated Cloud forgets its conversations when it stops, so a database
//! that remembered them would only mislead.

use std::net::{AddrParseError, IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use ipnet::IpNet;

use super::listening::listen;
use super::sandbox::TIME_TO_LIVE;
use crate::app::{App, Listeners, Threads, serve_until};
use crate::clock::SystemClock;
use crate::config::{self, Config, Environment};
use crate::crypto::Key;
use crate::http::Proxy;
use crate::lifecycle::Lifecycle;
use crate::sandbox::agent::Script;
use crate::sandbox::stage::{Bridge, Demo, Stage};
use crate::sandbox::webhooks::{Algorithm, Retry, Webhook};
use crate::sandbox::{self, Sandbox};

const API_KEY: &str = "demo-key";

/// Fixed like the API key, so that the documentation can name it.
const OPERATOR_KEY: &str = "demo-operator-key";

#[derive(Debug, Args)]
pub(super) struct Options {
    /// The address of the API
    #[arg(
        long,
        env = "BRIDGE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_name = "ADDRESS",
        value_parser = |text: &str| address_or(text, "127.0.0.1:8080")
    )]
    listen: SocketAddr,
    /// The address of the operator's page, of probes and of metrics
    #[arg(
        long,
        env = "BRIDGE_ADMIN_LISTEN",
        default_value = "127.0.0.1:9090",
        value_name = "ADDRESS",
        value_parser = |text: &str| address_or(text, "127.0.0.1:9090")
    )]
    admin_listen: SocketAddr,
    /// The address of the simulated Cloud and of the demo's page
    #[arg(long, default_value = "127.0.0.1:9400", value_name = "ADDRESS")]
    cloud_listen: SocketAddr,
}

/// Parses an address. An empty one is the default, since an empty variable counts as unset.
fn address_or(text: &str, default: &str) -> Result<SocketAddr, AddrParseError> {
    if text.is_empty() { default } else { text }.parse()
}

pub(super) async fn run(options: &Options, threads: NonZero<usize>) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    let data_dir = tempfile::tempdir().context("no temporary directory can be created")?;
    let cloud = listen(options.cloud_listen, "--cloud-listen")?;
    let listeners = Listeners {
        api: listen(options.listen, "--listen")?,
        admin: listen(options.admin_listen, "--admin-listen")?,
    };
    let urls = Urls {
        cloud: local(cloud.local_addr()?),
        api: local(listeners.api.local_addr()?),
        admin: local(listeners.admin.local_addr()?),
    };
    let token_key = Key::random().to_base64();
    let settings = Environment::from([
        ("API".to_owned(), format!("http://{}", urls.api)),
        ("CLOUD".to_owned(), format!("http://{}", urls.cloud)),
        (
            "CLOUD_NETWORK".to_owned(),
            IpNet::from(urls.cloud.ip()).to_string(),
        ),
        (
            "CLOUD_BY_NAME".to_owned(),
            format!("http://localhost:{}", urls.cloud.port()),
        ),
        ("KEY".to_owned(), API_KEY.to_owned()),
        ("OPERATOR_KEY".to_owned(), OPERATOR_KEY.to_owned()),
        ("SEALING_KEY".to_owned(), Key::random().to_base64()),
        ("TOKEN_KEY".to_owned(), token_key.clone()),
        ("CALLBACK_KEY".to_owned(), Key::random().to_base64()),
        (
            "DATA_DIR".to_owned(),
            data_dir.path().to_string_lossy().into_owned(),
        ),
    ]);
    let config = config::parse("demo.toml", include_str!("demo.toml"), &settings)?;

    let sandbox = Sandbox::new(
        Arc::new(SystemClock),
        sandbox::Options {
            webhooks: webhooks(&config, urls.api)?,
            agent: Some(Script::default()),
            stage: stage(&config, urls.api, token_key)?,
            ..sandbox::Options::default()
        },
    )?;
    let threads = Threads::start(threads).context(super::NO_THREADS)?;
    let app = App::build(&config, Proxy::None, life.clone())
        .await?
        .on_threads(threads)
        .around_api(|api| sandbox.watch(api));
    // The simulated Cloud stops after the service, which may still be sending requests to it.
    let cloud = serve_until(cloud, (sandbox.router(), None), 0, std::future::pending());
    super::print(&urls.welcome())?;
    tokio::select! {
        in_time = app.serve(listeners) => Ok(super::exit_code(in_time)),
        () = cloud => Ok(ExitCode::FAILURE),
    }
}

/// Sets up the page of the simulated Cloud: it calls the service as users of the demo channel.
fn stage(config: &Config, api: SocketAddr, token_key: String) -> anyhow::Result<Stage> {
    let channel = config.channels.first().context("the demo has no channel")?;
    Ok(Stage {
        bridge: Some(Bridge {
            url: format!("http://{api}").parse()?,
        }),
        demo: Some(Demo {
            channel: channel.id.to_string(),
            token_key: token_key.into(),
            api_key: API_KEY.to_owned().into(),
        }),
    })
}

/// Sends each account's notifications to the service, signed as its configuration expects.
fn webhooks(config: &Config, api: SocketAddr) -> anyhow::Result<Vec<Webhook>> {
    let accounts = config.accounts.iter();
    accounts
        .map(|account| {
            let url = format!("http://{api}/webhooks/{}", account.account_id);
            Ok(Webhook {
                account_id: account.account_id.to_string(),
                client_id: account.client_id.clone(),
                client_secret: account.client_secret.clone(),
                url: url.parse()?,
                algorithm: Algorithm::Sha256,
                retry: Retry::TimeToLive(TIME_TO_LIVE),
            })
        })
        .collect()
}

/// Returns the address at which this machine reaches a listener. One that listens on all addresses
/// is reached at the loopback address.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

struct Urls {
    cloud: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
}

impl Urls {
    fn welcome(&self) -> String {
        let Self { cloud, api, admin } = self;
        let row = |name: &str, url: &str, note: &str| format!("  {name:<15}  {url:<29}  {note}");
        let addresses = [
            row(
                "Simulated Cloud",
                &format!("http://{cloud}"),
                "open this page first: both sides of a conversation",
            ),
            row(
                "API",
                &format!("http://{api}"),
                &format!("documentation: http://{api}/docs"),
            ),
            row(
                "Operator's page",
                &format!("http://{admin}"),
                &format!("operator key: {OPERATOR_KEY}"),
            ),
            row(
                "Probes",
                &format!("http://{admin}/readyz"),
                "200 if the service is ready",
            ),
        ];
        format!(
            "\n\
             The demo is ready.\n\
             \n\
             {}\n\
             \n\
             Send a message as the user \"alice\" of the channel \"demo\":\n\
             \n  \
               curl -sS -X POST http://{api}/v1/users/alice/messages -H 'Authorization: Bearer {API_KEY}' -H 'Content-Type: application/json' -d '{{\"text\": \"Hello\"}}'\n\
             \n\
             A scripted agent answers within 2 s. It has special answers to \"menu\", \"card\", \"picture\" and \"bye\".\n\
             Watch the events:\n\
             \n  \
               curl -sSN http://{api}/v1/events -H 'Authorization: Bearer {API_KEY}' -H 'Accept: text/event-stream'\n\
             \n\
             Ctrl-C stops the demo and deletes its data.\n\n",
            addresses.join("\n")
        )
    }
}
