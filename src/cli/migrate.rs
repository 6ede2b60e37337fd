//! `migrate`: migrates the schema to the current version, as `serve` does at its start.

use std::process::ExitCode;

use crate::app::{self, Timekeeper};
use crate::bridge;
use crate::config::Config;
use crate::store::Store;
use crate::types::audit::Actor;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::connect(&app::location(&config.database)).await?;
    let clock = Timekeeper::begin(&store).await?.clock();
    bridge::migrate(&store, Actor::Command, &*clock).await?;
    store.close().await;
    super::print("The schema is up to date.\n")?;
    Ok(ExitCode::SUCCESS)
}
