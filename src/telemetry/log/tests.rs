//! Tests of both formats, with a log in memory.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// Text that would break a line, clear a screen or change its colours. It begins with invisible
/// characters and a line separator: the first six change the direction of text, and the last is a
/// tag beyond 16 bits.
const HOSTILE: &str = "\u{202e}\u{202a}\u{2066}\u{2069}\u{200f}\u{61c}\u{200b}\u{feff}\u{ad}\u{2029}\u{e0041}\
    no\n2026-01-01T00:00:00Z ERROR forged\r\u{1b}[2J\u{85}\u{2028}{\"level\":\"ERROR\"}\u{7}";

#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl io::Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Memory {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Returns the log of the events of `scene`, in a format.
fn written(format: Format, scene: impl FnOnce()) -> String {
    let memory = Memory::default();
    let layer: AnyLayer = match format {
        Format::Human => human::layer(memory.clone(), false),
        Format::Json => super::json::Lines::new(memory.clone()).boxed(),
    };
    tracing::subscriber::with_default(Registry::default().with(layer), scene);
    String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
}

#[derive(Debug, thiserror::Error)]
#[error("outer {HOSTILE}")]
struct Outer(#[source] Inner);

#[derive(Debug, thiserror::Error)]
#[error("inner {HOSTILE}")]
struct Inner;

fn a_hostile_event() {
    let error = Outer(Inner);
    let span = tracing::info_span!("outer", given = %HOSTILE, said = HOSTILE);
    let _entered = span.enter();
    tracing::warn!(
        shown = %HOSTILE,
        debugged = ?HOSTILE,
        error = &error as &dyn std::error::Error,
        "a message: {HOSTILE}"
    );
}

#[test]
fn foreign_text_in_a_log_starts_no_line_and_moves_no_cursor() {
    for format in [Format::Human, Format::Json] {
        let log = written(format, a_hostile_event);

        let line = log.strip_suffix('\n').unwrap();
        assert!(!line.chars().any(is_escaped), "{line:?}");
        if format == Format::Json {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["level"], "WARN");
            assert_eq!(line["shown"], HOSTILE);
        }
    }
}

#[test]
fn a_json_line_has_the_fields_of_the_event_and_of_the_spans_around_it() {
    let log = written(Format::Json, || {
        let outer = tracing::info_span!("outer", a = 1, b = 1, late = tracing::field::Empty);
        let _outer = outer.enter();
        outer.record("late", "told");
        let inner = tracing::info_span!("inner", b = 2, c = true, message = "of a span");
        let _inner = inner.enter();
        tracing::error!(
            c = 1.5,
            level = "forged",
            timestamp = "forged",
            target = "forged",
            "told"
        );
        tracing::info!(nothing = f64::NAN);
    });

    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let mut first = lines[0].clone();
    let timestamp = first.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(chrono::DateTime::parse_from_rfc3339(timestamp.as_str().unwrap()).is_ok());
    assert!(timestamp.as_str().unwrap().ends_with('Z'));
    assert_eq!(
        first,
        json!({
            "level": "ERROR", "target": module_path!(), "message": "told",
            "a": 1, "b": 2, "c": 1.5, "late": "told",
        })
    );
    assert_eq!(lines[1]["message"], "");
    assert_eq!(lines[1]["nothing"], Value::Null);
    for line in log.lines() {
        for name in super::json::RESERVED_MEMBERS {
            assert_eq!(line.matches(&format!("\"{name}\":")).count(), 1, "{line}");
        }
    }
}

#[test]
fn human_readable_logs_omit_span_ids() {
    let log = written(Format::Human, || {
        let span = tracing::info_span!("s", trace_id = "t", span_id = "s1", parent_id = "p1");
        span.in_scope(|| tracing::info!(status = 200, "done"));
    });

    assert!(log.contains("s{trace_id=\"t\"}"), "{log}");
    assert!(log.ends_with("done status=200\n"), "{log}");
    assert!(!log.contains("span_id") && !log.contains("p1"), "{log}");
}

#[test]
fn a_human_readable_line_shows_each_field_once() {
    let log = written(Format::Human, || {
        let outer = tracing::info_span!(
            "outer",
            a = 1,
            trace_id = "t",
            status = tracing::field::Empty
        );
        let _outer = outer.enter();
        let inner = tracing::info_span!("inner", a = 2, trace_id = "t", message = "of a span");
        let _inner = inner.enter();
        outer.record("status", 200);
        tracing::info!(status = 200, b = 3, "done");
        tracing::warn!(trace_id = "t");
    });

    let lines = log.lines().map(|line| line.split_once(' ').unwrap());
    let shown = lines.map(|(_time, rest)| rest.replace(module_path!(), "here"));
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            " INFO outer{a=1 trace_id=\"t\"}:inner{a=2}: here: done status=200 b=3",
            " WARN outer{a=1 status=200}:inner{a=2}: here: trace_id=\"t\"",
        ]
    );
}

#[test]
fn colors_of_the_human_log_are_those_of_its_levels() {
    let memory = Memory::default();
    let subscriber = Registry::default().with(human::layer(memory.clone(), true));
    tracing::subscriber::with_default(subscriber, || tracing::error!("a\u{1b}[2J"));

    let log = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains(" \u{1b}[31mERROR\u{1b}[0m "), "{log:?}");
    assert!(log.ends_with(":\u{1b}[0m a\\u{1b}[2J\n"), "{log:?}");
}

#[test]
fn foreign_text_becomes_one_escaped_line() {
    assert_eq!(
        sanitize_line(" a\nb\u{202e}c é👍🏽\u{fe0f} ", 200),
        "a b\\u{202e}c é👍🏽\u{fe0f}"
    );
    assert_eq!(
        sanitize_line(&"\u{2067}".repeat(300), 20).chars().count(),
        20
    );
    for c in [
        '\u{200e}', '\u{202d}', '\u{2068}', '\u{2028}', '\u{85}', '\u{7f}',
    ] {
        assert!(is_escaped(c), "{c:?}");
    }
    for c in [
        'a', ' ', 'é', '\u{5d0}', '\u{627}', '👍', '\u{fe0f}', '\u{301}',
    ] {
        assert!(!is_escaped(c), "{c:?}");
    }
}
