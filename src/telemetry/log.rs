//! The log: lines for people, or one JSON object a line, on standard error.
//!
//! A line is one event, whatever stands in it: what came from outside, such as the Cloud's own words, neither begins a
//! line nor moves a terminal's cursor.

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

/// What hears of events and spans.
pub(super) type AnyLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people, with colours on a terminal.
    #[default]
    Human,
    /// For machines: one JSON object a line.
    Json,
}

/// A word that names no format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected human or json")]
pub struct UnknownFormat;

/// `RUST_LOG` says nothing that could be followed.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// It is no list of directives.
    #[error(
        "RUST_LOG: expected a level such as info, or directives such as info,liveperson_bridge::cloud=debug"
    )]
    Malformed(#[source] ParseError),
    /// It is no text.
    #[error("RUST_LOG: expected text in UTF-8")]
    NoText,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        match word {
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// How detailed the log is: as `RUST_LOG` says, or `usual` where it says nothing.
///
/// # Errors
///
/// Where it cannot be understood; nothing would tell that a filter is not the one that was asked for.
pub(super) fn filter(usual: &'static str) -> Result<EnvFilter, BadFilter> {
    match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.trim().is_empty() => {
            EnvFilter::try_new(text).map_err(BadFilter::Malformed)
        }
        Err(std::env::VarError::NotUnicode(_)) => Err(BadFilter::NoText),
        Ok(_) | Err(_) => Ok(EnvFilter::new(usual)),
    }
}

/// Sends the log to standard error from now on.
///
/// The first call decides; later ones change nothing.
pub(super) fn init(format: Format, filter: EnvFilter, spans: Option<AnyLayer>) {
    let written: AnyLayer = match format {
        Format::Human => tracing_subscriber::fmt::layer()
            .fmt_fields(human::Fields)
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .boxed(),
        Format::Json => json::Lines::new(io::stderr).boxed(),
    };
    let written = written.with_filter(filter).boxed();
    let layers: Vec<_> = spans.into_iter().chain([written]).collect();
    let subscriber = Registry::default().with(layers);
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        tracing::debug!("the log was set up before");
        return;
    }
    if format == Format::Json {
        // The usual hook writes lines that are no JSON.
        std::panic::set_hook(Box::new(log_panic));
    }
}

/// Tells why a command fails, on standard error, whatever the filter says.
pub fn tell_failure(format: Format, error: &str) {
    let line = match format {
        Format::Human => format!("error: {error}\n"),
        Format::Json => json::failure(error),
    };
    // Nothing is left to do when standard error is gone.
    drop(io::stderr().lock().write_all(line.as_bytes()));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(tracing::field::display);
    let payload = panic.payload_as_str().unwrap_or("no text");
    tracing::error!(location, panic = payload, "a thread panicked");
}

/// True if a character is escaped wherever it stands: it may end a line, move a terminal's cursor, or have a line read otherwise
/// than it is written. NEL is a control character, and the two separators end a line for some readers as it does.
pub(crate) fn is_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') || is_invisible(c)
}

/// True for a character that shows nothing, such as those that turn the direction of what follows.
///
/// Source: Unicode, `Default_Ignorable_Code_Point` and the interlinear annotations, but for the variation selectors of emoji.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Somebody else's text, made safe to repeat to channels and in logs: one line of at most `most` characters.
pub(crate) fn one_line(text: &str, most: usize) -> String {
    let mut line = String::new();
    for c in text.trim().chars().take(most) {
        if c.is_control() {
            line.push(' ');
        } else if is_escaped(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.chars().take(most).collect()
}

/// An error and what caused it, in one line.
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
