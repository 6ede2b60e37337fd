//! Log lines for people: the time, the level, the spans, the target, the message and the fields.
//! They have no characters that could begin a line or move a cursor, and no ids that only programs
//! use. A field that several spans and the event have in common is shown once.

use std::error::Error as StdError;
use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer as _;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, MakeWriter};
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::{AnyLayer, Chain, is_escaped};

/// The fields of a span that only programs use. They are left out, since the id of the trace is
/// enough to find the lines that belong together.
const FOR_MACHINES: [&str; 3] = ["span_id", "parent_id", "sampled"];

/// The end of a field in a text of several fields. No field contains it, since control characters
/// are escaped.
const FIELD_END: char = '\u{1f}';

/// The beginning of the field that holds the message of an event.
const MESSAGE: &str = "message=";

/// Creates the layer that writes lines for people, with colors if `has_colors`.
pub(super) fn layer<W>(writer: W, has_colors: bool) -> AnyLayer
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer()
        .fmt_fields(Fields)
        .event_format(Line)
        .with_writer(writer)
        .with_ansi(has_colors)
        .boxed()
}

/// The formatter of a line.
struct Line;

impl<S> FormatEvent<S, Fields> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut own = FormattedFields::<Fields>::new(String::new());
        Fields.format_fields(own.as_writer(), event)?;
        let (dim, color, plain) = if writer.has_ansi_escapes() {
            ("\u{1b}[2m", color(*metadata.level()), "\u{1b}[0m")
        } else {
            ("", "", "")
        };
        writer.write_str(dim)?;
        SystemTime.format_time(&mut writer)?;
        let level = metadata.level().as_str();
        write!(writer, "{plain} {color}{level:>5}{plain} {dim}")?;
        let mut shown = own.fields.clone();
        let mut separator = "";
        let spans = context.event_scope().into_iter();
        for span in spans.flat_map(Scope::from_root) {
            writer.write_str(span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<Fields>>() {
                write_span_fields(&mut writer, &fields.fields, &mut shown)?;
            }
            writer.write_char(':')?;
            separator = " ";
        }
        write!(writer, "{separator}{}:{plain}", metadata.target())?;
        for field in own.fields.split_terminator(FIELD_END) {
            write!(writer, " {}", field.strip_prefix(MESSAGE).unwrap_or(field))?;
        }
        writeln!(writer)
    }
}

/// Writes those fields of a span that the line does not show yet, and adds them to `shown`.
fn write_span_fields(writer: &mut Writer<'_>, fields: &str, shown: &mut String) -> fmt::Result {
    let mut separator = '{';
    for field in fields.split_terminator(FIELD_END) {
        let is_shown = shown.split_terminator(FIELD_END).any(|it| it == field);
        // A field `message` of a span is not the message of the event.
        if is_shown || field.starts_with(MESSAGE) {
            continue;
        }
        write!(writer, "{separator}{field}")?;
        separator = ' ';
        shown.push_str(field);
        shown.push(FIELD_END);
    }
    if separator == ' ' {
        writer.write_char('}')?;
    }
    Ok(())
}

/// Returns the escape sequence for the color of a level.
fn color(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        Level::DEBUG => "\u{1b}[34m",
        Level::TRACE => "\u{1b}[35m",
    }
}

/// The formatter for the fields of events and spans. It writes each one as `name=value`, followed
/// by [`FIELD_END`].
struct Fields;

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter {
            writer,
            outcome: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.outcome
    }

    fn add_fields(&self, all: &'w mut FormattedFields<Self>, added: &Record<'_>) -> fmt::Result {
        self.format_fields(all.as_writer(), added)
    }
}

/// A visitor that writes the fields to be shown, escaped. Numbers need no escaping, and also arrive
/// at `record_debug`.
struct FieldWriter<'w> {
    writer: Writer<'w>,
    outcome: fmt::Result,
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.record_debug(field, &format_args!("{}", Chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = field.name();
        if self.outcome.is_ok() && !FOR_MACHINES.contains(&name) {
            let value = Escaped(value);
            self.outcome = write!(self.writer, "{name}={value:?}{FIELD_END}");
        }
    }
}

/// A value with its unsafe characters escaped.
struct Escaped<'a>(&'a dyn Debug);

impl Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{:?}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if is_escaped(c) {
                write!(self.0, "{}", c.escape_default())?;
            } else {
                self.0.write_char(c)?;
            }
        }
        Ok(())
    }
}
