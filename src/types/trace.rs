//! The request id and the W3C trace context, which connect the parts of one request.
//!
//! Source: W3C Recommendation "Trace Context" of 23 November 2021.

mod state;

use std::fmt::{self, Write as _};
use std::num::NonZeroU64;
use std::sync::Arc;

use uuid::Uuid;

/// The `flags` that are passed on: sampled, and, from level 2 on, a random trace id. Others must
/// not be passed on.
const FLAGS: u8 = 0b11;

/// The length of a `traceparent` in characters.
const TRACEPARENT_LENGTH: usize = 55;

/// The flag of a trace that its originator records.
const SAMPLED: u8 = 0b01;

/// Creates the span of a step of a trace, with a constant name and its own fields. The log and the
/// export identify it by the ids of the step.
macro_rules! step {
    ($trace:expr, $name:literal, $($fields:tt)+) => {
        tracing::info_span!(
            $name,
            $($fields)+
            trace_id = $trace.trace_id(),
            span_id = %$trace.span_id(),
            parent_id = $trace.parent_id().map(tracing::field::display),
            sampled = $trace.is_sampled(),
        )
    };
}

pub(crate) use step;

/// The id and trace of one request, passed on to every call that the request causes.
#[derive(Debug, Clone)]
pub struct Trace {
    // Shared by all steps of the request.
    request_id: Arc<str>,
    /// 32 lower-case hex digits.
    id: Arc<str>,
    span_id: SpanId,
    parent_id: Option<SpanId>,
    flags: u8,
    tracestate: Option<String>,
}

/// The id of a span, which is one step of a trace. Zero means "invalid".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId(NonZeroU64);

/// The trace context that is stored, so that later work continues the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace, and the span that was the cause.
    pub traceparent: String,
    /// The `tracestate` of other participants, which is passed on.
    pub tracestate: Option<String>,
}

impl Trace {
    /// Continues the request id and the trace of the caller. Instead of a missing or malformed id,
    /// one is made from `fresh`. Instead of a missing or malformed trace, a new one begins.
    ///
    /// A request id of 1 to 128 visible ASCII characters is accepted. The trace id and flags of a
    /// valid `traceparent` are copied. The span id is new, as the W3C recommendation requires of a
    /// participant.
    #[must_use]
    pub fn continue_from(request_id: Option<&str>, traceparent: Option<&str>, fresh: Uuid) -> Self {
        let own_id = || format!("req_{}", fresh.simple());
        let request_id = request_id
            .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
            .map_or_else(own_id, str::to_owned);
        let parent = traceparent.and_then(Traceparent::parse);
        let (id, parent_id, flags) = parent.map_or_else(
            || (Uuid::new_v4().simple().to_string(), None, SAMPLED),
            |parent| (parent.trace_id, Some(parent.span_id), parent.flags),
        );
        Self {
            request_id: request_id.into(),
            id: id.into(),
            span_id: SpanId::random(),
            parent_id,
            flags,
            tracestate: None,
        }
    }

    /// Adds the caller's `tracestate` headers. They are dropped if they are malformed or the trace
    /// is not the caller's.
    #[must_use]
    pub fn with_state<'a>(self, headers: impl IntoIterator<Item = &'a str>) -> Self {
        let tracestate = self.parent_id.and_then(|_| state::read(headers));
        Self { tracestate, ..self }
    }

    /// Continues a stored trace, or begins a new one if there is none.
    #[must_use]
    pub fn continue_stored(parent: Option<&TraceContext>, fresh: Uuid) -> Self {
        let traceparent = parent.map(|parent| &parent.traceparent[..]);
        let tracestate = parent.and_then(|parent| parent.tracestate.as_deref());
        Self::continue_from(None, traceparent, fresh).with_state(tracestate)
    }

    /// Begins the next step of the same request.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            span_id: SpanId::random(),
            parent_id: Some(self.span_id),
            ..self.clone()
        }
    }

    /// Returns the trace context to be stored for later work.
    #[must_use]
    pub fn parent(&self) -> TraceContext {
        TraceContext {
            traceparent: self.traceparent(),
            tracestate: self.tracestate.clone(),
        }
    }

    /// Returns the request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the value of the `traceparent` header for calls that this request causes.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let Self {
            id, span_id, flags, ..
        } = self;
        // The capacity is exact, so that a header takes the text over without a copy.
        let mut value = String::with_capacity(TRACEPARENT_LENGTH);
        let written = write!(value, "00-{id}-{span_id}-{flags:02x}");
        debug_assert!(written.is_ok(), "writing to a string does not fail");
        value
    }

    /// Returns the value of the `tracestate` header for calls that this request causes.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }

    /// Returns the id of the trace, which includes everything that one cause has led to, in all
    /// services.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.id
    }

    /// Returns the id of the trace that a stored `traceparent` names.
    #[must_use]
    pub fn id_in(traceparent: &str) -> Option<String> {
        Traceparent::parse(traceparent).map(|parsed| parsed.trace_id)
    }

    /// Returns the id of this step.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Returns the id of the step that led to this one.
    #[must_use]
    pub fn parent_id(&self) -> Option<SpanId> {
        self.parent_id
    }

    /// True if the originator of the trace records it.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

impl SpanId {
    fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

struct Traceparent {
    trace_id: String,
    span_id: SpanId,
    flags: u8,
}

impl Traceparent {
    /// Parses a `traceparent`. Returns `None` if the value is invalid by the recommendation.
    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let (version, trace_id, span_id, flags) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_hex = |text: &str, length: usize| {
            text.len() == length
                && text
                    .bytes()
                    .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        let valid = is_hex(version, 2)
            && version != "ff"
            && is_hex(trace_id, 32)
            && is_hex(span_id, 16)
            && is_hex(flags, 2)
            && trace_id.bytes().any(|b| b != b'0')
            // Later versions may append members; version 00 has exactly four.
            && (version != "00" || parts.next().is_none());
        if !valid {
            return None;
        }
        Some(Self {
            trace_id: trace_id.to_owned(),
            span_id: SpanId(NonZeroU64::new(u64::from_str_radix(span_id, 16).ok()?)?),
            flags: u8::from_str_radix(flags, 16).ok()? & FLAGS,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

    #[test]
    fn a_callers_request_id_and_trace_are_continued_under_a_new_span() {
        let trace = Trace::continue_from(Some("abc"), Some(TRACEPARENT), Uuid::nil());

        assert_eq!(trace.request_id(), "abc");
        let traceparent = trace.traceparent();
        assert!(traceparent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert!(traceparent.ends_with("-00"));
        assert!(!traceparent.contains("b7ad6b7169203331"));
        assert!(Traceparent::parse(&traceparent).is_some());
    }

    #[test]
    fn unknown_trace_flags_are_not_passed_on() {
        for (received, passed) in [
            ("00", "00"),
            ("01", "01"),
            ("03", "03"),
            ("ff", "03"),
            ("fc", "00"),
        ] {
            let traceparent = format!("{}{received}", TRACEPARENT.strip_suffix("00").unwrap());
            let trace = Trace::continue_from(None, Some(&traceparent), Uuid::nil());

            assert!(
                trace.traceparent().ends_with(&format!("-{passed}")),
                "{received}"
            );
            assert_eq!(trace.is_sampled(), passed != "00");
        }
    }

    #[test]
    fn a_child_and_a_stored_parent_continue_trace_and_state() {
        let trace = Trace::continue_from(Some("abc"), Some(TRACEPARENT), Uuid::nil());
        let trace = trace.with_state(["rojo=1", "congo=2"]);

        let child = trace.child();
        let later = Trace::continue_stored(Some(&child.parent()), Uuid::nil());

        assert_eq!(trace.parent_id().unwrap().to_string(), "b7ad6b7169203331");
        assert_eq!(child.parent_id(), Some(trace.span_id()));
        assert_eq!(later.parent_id(), Some(child.span_id()));
        assert_ne!(later.span_id(), child.span_id());
        for trace in [&trace, &child, &later] {
            assert_eq!(trace.trace_id(), "0af7651916cd43dd8448eb211c80319c");
            assert_eq!(trace.tracestate(), Some("rojo=1,congo=2"));
        }
        assert_eq!(child.request_id(), "abc");
    }

    #[test]
    fn a_tracestate_without_a_traceparent_is_dropped() {
        for traceparent in [None, Some("00-0-0-0")] {
            let trace = Trace::continue_from(None, traceparent, Uuid::nil());

            assert_eq!(trace.with_state(["rojo=1"]).tracestate(), None);
        }
    }

    #[test]
    fn the_trace_id_is_read_from_a_stored_traceparent() {
        let id = Trace::id_in(TRACEPARENT);

        assert_eq!(id.as_deref(), Some("0af7651916cd43dd8448eb211c80319c"));
        assert_eq!(Trace::id_in("00-0-0-0"), None);
    }

    #[test]
    fn malformed_ids_are_replaced() {
        for bad in ["", "a b", "a\u{7f}", &"x".repeat(129)] {
            let trace = Trace::continue_from(Some(bad), None, Uuid::nil());
            assert!(trace.request_id().starts_with("req_"), "{bad:?}");
        }
        for bad in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-00",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more",
        ] {
            assert!(Traceparent::parse(bad).is_none(), "{bad}");
        }
    }
}
