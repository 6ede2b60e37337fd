//! The log on standard error: lines for people, or one JSON object per line.
//!
//! A line is one event, whatever it contains. Text from outside, such as an error message of the
//! Cloud, can neither begin a line nor move a terminal's cursor.

mod human;
mod json;

use std::error::Error as StdError;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::panic::PanicHookInfo;
use std::str::FromStr;

use tracing_subscriber::filter::ParseError;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// A layer that receives events and spans.
pub(super) type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people, with colours on a terminal.
    #[default]
    Human,
    /// For programs: one JSON object per line.
    Json,
}

/// The error for an unknown format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected human or json")]
pub struct UnknownFormat;

/// The error for a value of `RUST_LOG` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// It is not a list of directives.
    #[error(
        "RUST_LOG: expected a level such as info, or directives such as info,liveperson_bridge::cloud=debug"
    )]
    Malformed(#[source] ParseError),
    /// It is not UTF-8 text.
    #[error("RUST_LOG: expected text in UTF-8")]
    NotUtf8,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// Creates the filter that `RUST_LOG` requests, or `default` if it is not set.
///
/// # Errors
///
/// The value of `RUST_LOG` is not understood. A silent fallback to `default` would go unnoticed.
pub(super) fn filter(default: &'static str) -> Result<EnvFilter, BadFilter> {
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.trim().is_empty() => {
            EnvFilter::try_new(text).map_err(BadFilter::Malformed)
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(BadFilter::NotUtf8),
        Ok(_) | Err(_) => Ok(EnvFilter::new(default)),
    }
}

/// Sends the log to standard error from now on.
///
/// Only the first call has an effect.
pub(super) fn init(format: Format, filter: EnvFilter, spans: Option<AnyLayer>) {
    let written: AnyLayer = match format {
        Format::Human => human::layer(io::stderr, io::stderr().is_terminal()),
        Format::Json => json::Lines::new(io::stderr).boxed(),
    };
    let written = written.with_filter(filter).boxed();
    let layers: Vec<_> = spans.into_iter().chain([written]).collect();
    let subscriber = Registry::default().with(layers);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("the log is already set up");
        return;
    }
    if format == Format::Json {
        // The default hook writes lines that are not JSON.
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Writes the reason why a command fails to standard error, whatever the filter says.
pub fn print_failure(format: Format, error: &str) {
    let line = match format {
        Format::Human => format!("error: {error}\n"),
        Format::Json => json::failure(error),
    };
    // Nothing is left to do if standard error is closed.
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(tracing::field::display);
    let payload = panic.payload_as_str().unwrap_or("no message");
    tracing::error!(location, panic = payload, "a thread panicked");
}

/// True if a character is escaped wherever it is. It may end a line, move a terminal's cursor, or
/// change the way in which a line is read. Some readers end a line at either of the two separators,
/// and at NEL, which is a control character.
pub(crate) fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_invisible(c)
}

/// True for a character that shows nothing, such as those that change the direction of the text
/// after them.
///
/// Source: Unicode, `Default_Ignorable_Code_Point` and the interlinear annotations, without the
/// variation selectors of emoji.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Makes text from outside safe for channels and logs: one line of at most `max_chars` characters.
pub(crate) fn sanitize_line(text: &str, max_chars: usize) -> String {
    let mut line = String::new();
    for c in text.trim().chars().take(max_chars) {
        if c.is_control() {
            line.push(' ');
        } else if is_escaped(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.chars().take(max_chars).collect()
}

/// An error and its causes, in one line.
struct Chain<'a>(&'a (dyn StdError + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
