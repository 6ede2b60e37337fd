//! `demo`: the service, the simulated Cloud with a scripted agent, and one channel in one process,
//! without any configuration.
//!
//! Everything listens on the loopback address only, and no data outlives the process. The simulated
//! Cloud forgets its conversations when it stops, so a database that remembered them would only
//! mislead.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;

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

/// Fixed, since the page can be reached only from this machine.
const OPERATOR_KEY: &str = "demo-operator-key";

pub(super) async fn run(threads: NonZero<usize>) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    let data_dir = tempfile::tempdir().context("no temporary directory can be created")?;
    let cloud = listen_with_fallback(9400).await?;
    let listeners = Listeners {
        api: listen_with_fallback(8080).await?,
        admin: listen_with_fallback(9090).await?,
    };
    let urls = Urls {
        cloud: cloud.local_addr()?,
        api: listeners.api.local_addr()?,
        admin: listeners.admin.local_addr()?,
    };
    let token_key = Key::random().to_base64();
    let settings = Environment::from([
        ("CLOUD".to_owned(), format!("http://{}", urls.cloud)),
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

/// Listens on this port, or on any free one if another program has it.
async fn listen_with_fallback(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => super::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await,
    }
}

struct Urls {
    cloud: SocketAddr,
    api: SocketAddr,
    admin: SocketAddr,
}

impl Urls {
    fn welcome(&self) -> String {
        let Self { cloud, api, admin } = self;
        format!(
            "\n\
             liveperson-bridge demo: ready.\n\
             \n  \
               API              http://{api}        (documentation: http://{api}/docs)\n  \
               Operator's page  http://{admin}/         (operator key: {OPERATOR_KEY})\n  \
               Probes           http://{admin}/readyz\n  \
               Simulated Cloud  http://{cloud}        (open it in a browser: both sides of a conversation, and the traffic between them)\n\
             \n\
             Send a message as the user \"alice\" of the channel \"demo\":\n\
             \n  \
               curl -sS -X POST http://{api}/v1/users/alice/messages -H 'Authorization: Bearer {API_KEY}' -H 'Content-Type: application/json' -d '{{\"text\": \"Hello\"}}'\n\
             \n\
             A scripted agent answers within 2 s; it also knows \"menu\", \"card\", \"picture\" and \"bye\". Watch the replies:\n\
             \n  \
               curl -sSN http://{api}/v1/events -H 'Authorization: Bearer {API_KEY}' -H 'Accept: text/event-stream'\n\
             \n\
             The conversations in the simulated Cloud: http://{cloud}/_sandbox/conversations\n\
             \n\
             Ctrl-C stops the demo and deletes its data.\n\n"
        )
    }
}
