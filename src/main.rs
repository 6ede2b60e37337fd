//! The `liveperson-bridge` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    liveperson_bridge::cli::run()
}
