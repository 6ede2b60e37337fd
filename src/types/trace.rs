//! What ties the parts of one request together: its id and its W3C trace context.

use std::fmt;

use uuid::Uuid;

/// The id and trace of one request, passed on to every call that it causes.
#[derive(Debug, Clone)]
pub struct Trace {
    request_id: String,
    traceparent: Traceparent,
}

impl Trace {
    /// Takes over what the caller sent, or begins anew with `fresh` where that is missing or malformed.
    ///
    /// A request id of 1 to 128 visible ASCII characters is taken over. The trace id and flags of a valid
    /// `traceparent` are kept; the span id becomes one of our own, as the W3C recommendation asks of a participant.
    #[must_use]
    pub fn continue_from(request_id: Option<&str>, traceparent: Option<&str>, fresh: Uuid) -> Self {
        let own_id = || format!("req_{}", fresh.simple());
        let request_id = request_id
            .filter(|id| (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
            .map_or_else(own_id, str::to_owned);
        // A span id of zeros means "invalid"; the variant bits of a UUID keep this half of one from being that.
        let (_, span_id) = Uuid::new_v4().as_u64_pair();
        let (trace_id, flags) = traceparent
            .and_then(Traceparent::parse)
            .unwrap_or((Uuid::new_v4().simple().to_string(), 1));
        Self {
            request_id,
            traceparent: Traceparent {
                trace_id,
                span_id,
                flags,
            },
        }
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// The value of the `traceparent` header for calls that this request causes.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.traceparent.to_string()
    }
}

#[derive(Debug, Clone)]
struct Traceparent {
    /// 32 lower-case hex digits.
    trace_id: String,
    span_id: u64,
    flags: u8,
}

impl Traceparent {
    /// Trace id and flags of a `traceparent` value; `None` where the recommendation calls it invalid.
    fn parse(value: &str) -> Option<(String, u8)> {
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
            && span_id.bytes().any(|b| b != b'0')
            // Later versions may append members, version 00 has exactly four.
            && (version != "00" || parts.next().is_none());
        valid.then(|| {
            (
                trace_id.to_owned(),
                u8::from_str_radix(flags, 16).unwrap_or_default(),
            )
        })
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{:016x}-{:02x}",
            self.trace_id, self.span_id, self.flags
        )
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
