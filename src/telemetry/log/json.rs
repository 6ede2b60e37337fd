//! The JSON format: one object per line, with the members of every line, the fields of the event,
//! and the fields of its spans.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt::Debug;
use std::io::Write as _;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::{Chain, is_escaped};

/// The members of every line. Fields with these names are left out, since a member must not occur
/// twice.
pub(super) const RESERVED_MEMBERS: [&str; 4] = ["timestamp", "level", "target", "message"];

/// A layer that writes each event as a line.
pub(super) struct Lines<W>(W);

#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    message: &'a str,
    #[serde(flatten)]
    fields: Fields,
}

/// Fields by name. If a name occurs twice, the event takes precedence over its spans, and an inner
/// span over an outer one.
#[derive(Debug, Clone, Default, Serialize)]
struct Fields(BTreeMap<&'static str, Value>);

impl<W> Lines<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(writer)
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(Scope::from_root)
        {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.0.extend(of_span.0.clone());
            }
        }
        // A field `message` of a span is not the message of the event.
        fields.0.remove("message");
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        for name in RESERVED_MEMBERS {
            fields.0.remove(name);
        }
        let metadata = event.metadata();
        let line = line(
            metadata.level().as_str(),
            metadata.target(),
            &message,
            fields,
        );
        // Nothing is left to do if standard error is closed.
        drop(self.0.make_writer().write_all(line.as_bytes()));
    }
}

/// Creates the line with the reason why a command fails.
pub(super) fn failure(error: &str) -> String {
    line("ERROR", "liveperson_bridge::cli", error, Fields::default())
}

fn line(level: &str, target: &str, message: &str, fields: Fields) -> String {
    let now = DateTime::<Utc>::from(SystemTime::now());
    let line = Line {
        timestamp: now.to_rfc3339_opts(SecondsFormat::Micros, true),
        level,
        target,
        message,
        fields,
    };
    // Serialization cannot fail, since all values are JSON values and all keys are text.
    let text = serde_json::to_string(&line).unwrap_or_default();
    let mut escaped = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        // JSON allows some of these characters unescaped, but only inside strings, so an escape is
        // valid there.
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let digit = |shift: u32| {
                    char::from_digit(u32::from(*unit) >> shift & 0xf, 16).unwrap_or('0')
                };
                escaped.push_str("\\u");
                escaped.extend([12, 8, 4, 0].map(digit));
            }
        } else {
            escaped.push(c);
        }
    }
    escaped.push('\n');
    escaped
}

impl Fields {
    fn insert(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        self.insert(field, Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.insert(field, format!("{value:?}"));
    }
}
