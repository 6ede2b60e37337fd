//! `rotate`: re-encrypts every stored token with the first of `encryption.keys`.

use std::process::ExitCode;

use crate::app::{self, Timekeeper};
use crate::bridge::{self, Rotation};
use crate::config::Config;
use crate::store::Store;
use crate::types::audit::Actor;

pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let store = Store::connect(&app::location(&config.database)).await?;
    let clock = Timekeeper::begin(&store).await?.clock();
    bridge::migrate(&store, Actor::Command, &*clock).await?;
    let Rotation {
        sealed_anew,
        unopened,
    } = bridge::rotate(&store, &config.encryption.keys, &*clock).await?;
    store.close().await;
    super::print(&format!(
        "Sealed {sealed_anew} token(s) anew with the first key.\n"
    ))?;
    if unopened > 0 {
        super::print(&format!(
            "{unopened} token(s) were sealed with a key that is not in encryption.keys; they are made anew when next needed.\n"
        ))?;
    } else {
        super::print("The other keys are no longer needed.\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
