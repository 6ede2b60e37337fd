//! `migrate`: brings the schema up to date, as `serve` does at its start.

use std::process::ExitCode;

use crate::app;
use crate::config::Config;
use crate::store::Store;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::connect(&app::location(&config.database)).await?;
    store.migrate().await?;
    store.close().await;
    super::print("The schema is up to date.\n")?;
    Ok(ExitCode::SUCCESS)
}
