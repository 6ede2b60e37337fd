//! Content negotiation: the choice of a format by the client's `Accept` field (RFC 9110, section
//! 12.5.1).

use std::cmp::Reverse;

use mediatype::{MediaType, MediaTypeList, ReadParams as _, names};

/// A format in which events are returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A page of events, `application/json`.
    Json,
    /// A stream of events, `text/event-stream`.
    EventStream,
}

impl Format {
    const fn media_type(self) -> MediaType<'static> {
        match self {
            Self::Json => MediaType::new(names::APPLICATION, names::JSON),
            Self::EventStream => MediaType::new(names::TEXT, names::EVENT_STREAM),
        }
    }
}

/// Returns the format that the lines of an `Accept` field prefer.
///
/// The format with the greater weight wins. At the same weight, the more specific range wins, then
/// the first one. If neither wins, or neither format is acceptable, the result is `default`.
/// Malformed media ranges are ignored. Parameters do not distinguish formats: `charset`, the only
/// one in use, changes nothing.
pub fn preferred<'a>(accept: impl IntoIterator<Item = &'a str>, default: Format) -> Format {
    let ranges = accept.into_iter().flat_map(MediaTypeList::new);
    let ranges: Vec<_> = ranges
        .filter_map(|range| {
            let range = range.ok()?;
            Some((weight(&range)?, range))
        })
        .collect();
    let other = match default {
        Format::Json => Format::EventStream,
        Format::EventStream => Format::Json,
    };
    if rank(&ranges, other) > rank(&ranges, default) {
        other
    } else {
        default
    }
}

/// Returns the weight of a format, and the specificity and position of the range that matches best;
/// `None` if the format is not acceptable.
fn rank(ranges: &[(u16, MediaType)], format: Format) -> Option<(u16, u8, Reverse<usize>)> {
    let offered = format.media_type();
    let matching = ranges.iter().zip(0..);
    let (specificity, weight, position) = matching
        .filter_map(|((weight, range), position)| {
            Some((specificity(range, &offered)?, *weight, Reverse(position)))
        })
        .max()?;
    (weight > 0).then_some((weight, specificity, position))
}

/// Returns the specificity of a media range, 0 to 2; `None` if it does not match the media type.
fn specificity(range: &MediaType, offered: &MediaType) -> Option<u8> {
    match (range.ty == names::_STAR, range.subty == names::_STAR) {
        (true, true) => Some(0),
        (false, true) if range.ty == offered.ty => Some(1),
        _ if range.essence() == offered.essence() => Some(2),
        _ => None,
    }
}

/// Returns the weight of a media range in thousandths; `None` if it is malformed.
fn weight(range: &MediaType) -> Option<u16> {
    let Some(value) = range.get_param(names::Q) else {
        return Some(1000);
    };
    let text = value.as_str();
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_digit = |byte: u8| byte.is_ascii_digit();
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(is_digit) {
        return None;
    }
    let thousandths = format!("{whole}{decimals:0<3}").parse().ok()?;
    (thousandths <= 1000).then_some(thousandths)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Format::{EventStream, Json};
    use super::*;

    #[test]
    fn the_format_is_chosen_by_weight_precision_and_order() {
        for (accept, format) in [
            ("text/event-stream", EventStream),
            ("TEXT/Event-Stream", EventStream),
            ("text/event-stream; charset=utf-8", EventStream),
            ("application/json", Json),
            ("application/json;profile=\"a, text/event-stream\"", Json),
            // The greater weight wins, and a weight of 0 means that the format is not acceptable.
            ("text/event-stream;q=0", Json),
            ("text/event-stream;q=0, application/json", Json),
            ("text/event-stream; q=0.000, */*", Json),
            ("application/json, text/event-stream;q=0.1", Json),
            ("application/json;q=0.999, text/event-stream", EventStream),
            (
                "application/json ; Q=0.5 , text/event-stream ; q=0.501",
                EventStream,
            ),
            ("application/json;q=0, */*", EventStream),
            ("application/json;q=0", Json),
            (
                "text/event-stream;q=1.000, application/json;q=1",
                EventStream,
            ),
            // A more specific range takes precedence over a less specific one, even over one with a
            // greater weight.
            ("text/*;q=0, text/event-stream", EventStream),
            (
                "text/event-stream;q=0.2, text/*, application/json;q=0.3",
                Json,
            ),
            ("*/*, application/json;q=0.2", EventStream),
            // At the same weight the more specific range wins, then the first one.
            ("text/event-stream, */*", EventStream),
            ("*/*, text/event-stream", EventStream),
            ("text/*, application/json", Json),
            ("application/json, text/event-stream", Json),
            ("text/event-stream, application/json", EventStream),
            ("application/json;q=0.5, text/event-stream;q=0.5", Json),
            // The default format is JSON here. It wins if nothing distinguishes the formats, or
            // neither is acceptable.
            ("", Json),
            ("*/*", Json),
            ("*/*;q=0", Json),
            ("text/html, application/xhtml+xml, */*;q=0.8", Json),
            ("application/xml", Json),
            ("text/*", EventStream),
            // Malformed ranges are ignored.
            ("application/x-text/event-stream-thing", Json),
            ("text/event-stream-thing", Json),
            ("text/event-stream+json", Json),
            ("event-stream", Json),
            ("*/event-stream", Json),
            ("text/event-stream;q=2", Json),
            ("text/event-stream;q=1.001", Json),
            ("text/event-stream;q=0.1234", Json),
            ("text/event-stream;q=.5", Json),
            ("text/event-stream;q=+1", Json),
            ("text/event-stream;q=", Json),
            ("text/event-stream;q=high", Json),
            ("text/event-stream;q", Json),
            (",, ;, text/event-stream, text/", EventStream),
            ("text/html;x=\"never closed, text/event-stream", Json),
        ] {
            assert_eq!(preferred([accept], Json), format, "{accept}");
        }
    }

    #[test]
    fn several_accept_lines_are_read_as_one_list() {
        let lines = ["application/json;q=0.5", "text/event-stream"];

        assert_eq!(preferred(lines, Json), EventStream);
        assert_eq!(preferred([], Json), Json);
    }

    #[test]
    fn the_caller_chooses_the_default_format() {
        for accept in ["", "*/*", "text/html"] {
            assert_eq!(preferred([accept], EventStream), EventStream, "{accept}");
        }
        assert_eq!(preferred(["application/json"], EventStream), Json);
        assert_eq!(preferred(["application/*, */*"], EventStream), Json);
    }

    proptest! {
        #[test]
        fn any_accept_value_is_parsed_without_a_panic(accept in "\\PC{0,60}|[a-z*/;=q.,0-9\" \\\\-]{0,60}") {
            preferred([&*accept], Json);
        }

        #[test]
        fn a_format_that_is_not_acceptable_is_never_preferred(weight in 0..=1000_u16) {
            let weight = format!("{}.{:03}", weight / 1000, weight % 1000);
            let accept = format!("text/event-stream;q=0, application/json;q={weight}");

            prop_assert_eq!(preferred([&*accept], Json), Json);
        }
    }
}
