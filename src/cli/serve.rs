//! `serve`: the service.

use std::process::ExitCode;
use std::sync::Arc;

use crate::app::{App, Listeners};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::http::Proxy;
use crate::lifecycle::Lifecycle;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    warn_of_what_waits(config);
    let app = App::build(config, Arc::new(SystemClock), Proxy::Environment, life).await?;
    let listeners = Listeners {
        facade: super::listen(config.listen).await?,
        admin: super::listen(config.admin_listen).await?,
    };
    tracing::info!(
        listen = %listeners.facade.local_addr()?,
        admin_listen = %listeners.admin.local_addr()?,
        accounts = config.accounts.len(),
        channels = config.channels.len(),
        database = if config.database.url.is_some() { "postgres" } else { "embedded" },
        "serving"
    );
    Ok(super::stopped(app.serve(listeners).await?))
}

/// Says which settings are taken but have no effect in this version, so that nobody relies on them unknowingly.
fn warn_of_what_waits(config: &Config) {
    for channel in &config.channels {
        let limits = &channel.limits;
        if limits.requests_per_second.is_some() || limits.per_user_requests_per_second.is_some() {
            tracing::warn!(channel.id = %channel.id, "channels.limits has no effect in this version");
        }
    }
}
