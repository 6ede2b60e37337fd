//! `openapi`: prints the OpenAPI document of the API.

use std::process::ExitCode;

use anyhow::Context as _;

use crate::api;

pub(super) fn run() -> anyhow::Result<ExitCode> {
    let document = api::document()
        .to_yaml()
        .context("the document cannot be converted to YAML")?;
    super::print(&document)?;
    Ok(ExitCode::SUCCESS)
}
