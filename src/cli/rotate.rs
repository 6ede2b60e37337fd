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
        "Re-encrypted {sealed_anew} token(s) with the first key.\n"
    ))?;
    if unopened > 0 {
        super::print(&format!(
            "{unopened} token(s) were encrypted with a key that is not in encryption.keys; new tokens are requested when they are needed.\n"
        ))?;
    } else if config
        .channels
        .iter()
        .any(|channel| channel.signed_file_links.is_some())
    {
        super::print(
            "The other keys are needed only until the links to files that they have signed expire (signed_file_links).\n",
        )?;
    } else {
        super::print("The other keys are no longer needed.\n")?;
    }
    Ok(ExitCode::SUCCESS)
}
