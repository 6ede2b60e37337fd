//! `serve`: runs the service.

use std::num::NonZero;
use std::process::ExitCode;

use anyhow::Context as _;

use super::listening::BoundAddress;
use crate::app::{App, Listeners, Threads};
use crate::config::Config;
use crate::http::Proxy;
use crate::lifecycle::Lifecycle;

pub(super) async fn run(config: &Config, threads: NonZero<usize>) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    // An address in use is reported before the schema is migrated. Connections are refused until
    // the service can answer them.
    let api = BoundAddress::bind(config.listen, "listen")?;
    let admin = BoundAddress::bind(config.admin_listen, "admin_listen")?;
    let threads = Threads::start(threads).context(super::NO_THREADS)?;
    let app = App::build(config, Proxy::Environment, life)
        .await?
        .on_threads(threads);
    let listeners = Listeners {
        api: api.listen()?,
        admin: admin.listen()?,
    };
    tracing::info!(
        listen = %listeners.api.local_addr()?,
        admin_listen = %listeners.admin.local_addr()?,
        accounts = config.accounts.len(),
        channels = config.channels.len(),
        database = if config.database.url.is_some() { "postgres" } else { "embedded" },
        "serving"
    );
    Ok(super::exit_code(app.serve(listeners).await))
}
