//! The command line: one file for each command, and `listening` for those that listen.
//!
//! To add a command:
//!
//! 1. Add a file with a function `run`, and its `mod`.
//! 2. Add a variant of `Command`, whose comment is the help text, and an arm of `dispatch`.
//! 3. Add a test to `tests/it/commands.rs`, and the command's name to the test of `--help` there.
//! 4. Add a row to the table of commands in `README.md`, a line to `CHANGELOG.md`, and a
//!    description for operators to `docs/operations.md`.

mod audit;
mod demo;
mod doctor;
mod listening;
mod migrate;
mod openapi;
mod rotate;
mod sandbox;
mod serve;

use std::env;
use std::io::{self, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::config::{self, Config};
use crate::telemetry::{Telemetry, log};

/// The variable that sets the number of threads. Tokio's own runtimes read it as well.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// 1,024: the largest number of threads, far above the number of cores of usual machines.
const MAX_THREADS: usize = 1024;

/// The error of threads that the system refuses.
const NO_THREADS: &str = "the threads that serve the API could not be started";

/// The exit code for bad usage or configuration.
const BAD_USAGE: u8 = 2;

/// The error of arguments that do not fit the configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadUsage(String);

/// Connects messaging channels to LivePerson's Conversational Cloud.
#[derive(Debug, Parser)]
#[command(name = "liveperson-bridge", version)]
struct Arguments {
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        help = "The configuration file [default: $BRIDGE_CONFIG, or bridge.toml if it exists]"
    )]
    config: Option<PathBuf>,
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "human",
        help = "The log format: human, or json with one object per line; $RUST_LOG sets the log level"
    )]
    log_format: log::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service
    Serve,
    /// Run the service with a simulated Cloud and an embedded database, without any configuration
    Demo(demo::Options),
    /// Run the simulated Cloud alone
    Sandbox(Box<sandbox::Options>),
    /// Migrate the database schema to the current version
    Migrate,
    /// Re-encrypt every stored token with the first of encryption.keys
    Rotate,
    /// Show the audit log of operators' actions
    Audit(audit::Options),
    /// Check the configuration, the database, the Cloud and the callback URLs
    Doctor(doctor::Options),
    /// Print the OpenAPI document of the API
    Openapi,
}

impl Command {
    /// Returns the filter of the log, unless `RUST_LOG` sets it.
    fn default_log_filter(&self) -> &'static str {
        match self {
            // The doctor's lines are for people, and must not be lost among log lines.
            Self::Doctor(_) => "warn,audit=info",
            // The output of a demo begins with its addresses, not with the migration of its
            // database. The audit log is on the operator's page.
            Self::Demo(_) => "info,audit=warn",
            _ => "info",
        }
    }

    /// True if the command reads the configuration.
    fn is_configured(&self) -> bool {
        !matches!(self, Self::Demo(_) | Self::Sandbox(_) | Self::Openapi)
    }
}

/// Runs the command that the arguments name. The exit code is 0 on a clean stop, 2 on bad usage or
/// configuration, and 1 on any other failure.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.config.is_some() && !arguments.command.is_configured() {
        let reason = "this command reads no configuration, so it cannot be used with '--config'";
        Arguments::command()
            .error(ErrorKind::ArgumentConflict, reason)
            .exit();
    }
    let format = arguments.log_format;
    let telemetry = match Telemetry::begin(format, arguments.command.default_log_filter()) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            log::print_failure(format, &error.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let threads = match thread_count() {
        Ok(threads) => threads,
        Err(error) => {
            log::print_failure(format, &error.to_string());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let outcome = runtime()
        .context("the runtime could not be started")
        .and_then(|runtime| runtime.block_on(dispatch(arguments, threads)));
    telemetry.finish();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            let code = if error.is::<config::Error>() || error.is::<BadUsage>() {
                BAD_USAGE
            } else {
                1
            };
            log::print_failure(format, &format!("{error:#}"));
            ExitCode::from(code)
        }
    }
}

/// Builds the runtime of the main thread. It runs everything except the connections that other
/// threads serve (`app::Threads`).
fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Returns the number of threads that serve the API: the number of cores that the process may use,
/// unless `TOKIO_WORKER_THREADS` sets another one.
fn thread_count() -> anyhow::Result<NonZero<usize>> {
    match env::var_os(THREADS) {
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse().ok())
            .filter(|count: &NonZero<usize>| count.get() <= MAX_THREADS)
            .with_context(|| format!("{THREADS}: expected a whole number from 1 to {MAX_THREADS}")),
        None => Ok(thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)),
    }
}

async fn dispatch(arguments: Arguments, threads: NonZero<usize>) -> anyhow::Result<ExitCode> {
    let config = || load(arguments.config.as_deref());
    match arguments.command {
        Command::Serve => serve::run(&config()?, threads).await,
        Command::Demo(options) => Box::pin(demo::run(&options, threads)).await,
        Command::Sandbox(options) => sandbox::run(*options).await,
        Command::Migrate => migrate::run(&config()?).await,
        Command::Rotate => rotate::run(&config()?).await,
        Command::Audit(options) => audit::run(&config()?, &options).await,
        Command::Doctor(options) => Box::pin(doctor::run(config(), &options)).await,
        Command::Openapi => openapi::run(),
    }
}

fn load(option: Option<&Path>) -> Result<Config, config::Error> {
    config::load(option, &config::environment())
}

/// Writes the output of a command to standard output.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("standard output is closed")
}

/// Returns success, or 1 if requests had to be aborted.
fn exit_code(in_time: bool) -> ExitCode {
    if in_time {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
