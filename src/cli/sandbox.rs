//! `sandbox`: the simulated Cloud alone.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use crate::app::serve_until;
use crate::clock::SystemClock;
use crate::lifecycle::Lifecycle;
use crate::sandbox::{self, Sandbox};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:9400", value_name = "ADDRESS")]
    listen: SocketAddr,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let life = Lifecycle::until_signal()?;
    let sandbox = Sandbox::new(Arc::new(SystemClock), sandbox::Options::default())?;
    let listener = super::listen(options.listen).await?;
    let address = listener.local_addr()?;
    super::print(&format!(
        "The simulated Cloud listens on http://{address}\n\
         It takes any account, client id and client secret; in bridge.toml: domain_api = \"http://{address}\"\n"
    ))?;
    let stopping = life.clone();
    let stop = async move { stopping.stopping().await };
    let mut result = Ok(());
    let serving = async { result = serve_until(listener, sandbox.router(), stop).await };
    let in_time = life.finish(serving).await;
    result?;
    Ok(super::stopped(in_time))
}
