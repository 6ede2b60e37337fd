//! The stream of server-sent events.
//!
//! One page is in memory at a time. The next is read when the reader has taken the current one, so
//! the socket limits a slow reader. A page has about 16 KiB of events. A page with a larger event
//! counts against the bound on pages that are being written.

use std::convert::Infallible;
use std::error::Error as _;
use std::fmt::Write as _;
use std::future::ready;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::api::load::{Load, Permit};
use crate::bounds::Holder;
use crate::bridge::{EventPage, EventStream};
use crate::types::event::Cursor;

/// 8 to 15 s: the longest silence on a stream, so that no proxy considers it dead. It is random
/// each time. Otherwise thousands of streams that began together would all get their comments at
/// the same moments, and delay everything else.
const COMMENT_SECONDS: RangeInclusive<f64> = 8.0..=15.0;

/// 1 to 3 s: the time after which a reader reconnects. It is random for each reader, so that the
/// readers of a replica that stops do not all reach the next one at the same moment.
const RETRY_MILLISECONDS: RangeInclusive<u32> = 1000..=3000;

/// A comment. No empty line follows it, because fetch-event-source 2 and httpx-sse 0.4 pass on an
/// empty event for each.
const COMMENT: &str = ":\n";

/// 128 bytes: the size of an event's fields without its body.
const FIELD_BYTES: usize = 128;

/// 16 KiB: a larger page counts against the bound on pages that are being written. Smaller ones are
/// bounded by the number of readers.
const LARGE_PAGE_BYTES: usize = 16 * 1024;

/// 100 to 300 ms: the pause before a permit is requested again. It is random each time, so that no
/// reader among many is always last.
const PERMIT_RETRY_MS: RangeInclusive<u64> = 100..=300;

/// Makes the streaming response with these events.
pub(super) fn respond(events: EventStream, load: Load) -> Response {
    let following = stream::unfold((events, load), async |(mut events, load)| {
        let chunk = next(&mut events, &load).await?;
        Some((chunk, (events, load)))
    });
    let chunks = stream::once(ready(beginning())).chain(following);
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    // The last header is for proxies like nginx, which otherwise buffer a response before they pass
    // it on.
    let unbuffered = [("x-accel-buffering", "no")];
    (
        headers,
        unbuffered,
        Body::from_stream(chunks.map(Ok::<_, Infallible>)),
    )
        .into_response()
}

/// Returns the first chunk of a stream. It is sent at once, since some proxies hold back the head
/// of a response until a part of its body arrives.
fn beginning() -> Bytes {
    let retry = rand::random_range(RETRY_MILLISECONDS);
    format!("{COMMENT}retry: {retry}\n").into()
}

/// Returns the next chunk to send; `None` if the stream ends.
async fn next(events: &mut EventStream, load: &Load) -> Option<Bytes> {
    // The permit for a page that was dropped and is read again.
    let mut waited_permit = None;
    loop {
        let silence = Duration::from_secs_f64(rand::random_range(COMMENT_SECONDS));
        let page = match timeout(silence, events.next()).await {
            Err(_elapsed) => return Some(Bytes::from_static(COMMENT.as_bytes())),
            Ok(Ok(page)) => page?,
            Ok(Err(error)) => {
                tracing::warn!(
                    error = error.source(),
                    "a stream of events ends early: {error}; its reader reconnects"
                );
                return None;
            }
        };
        let bytes = page.bytes();
        if bytes <= LARGE_PAGE_BYTES {
            return Some(rendered(&page).into());
        }
        let permit = waited_permit.take();
        if let Some(permit) = permit.or_else(|| load.page(events.holder(), bytes).ok()) {
            return Some(permit.attach_to_text(rendered(&page)));
        }
        // Many readers may wait for room, so none of them keeps its page meanwhile.
        drop(page);
        events.step_back();
        waited_permit = Some(wait_for_permit(load, events.holder(), bytes).await);
    }
}

/// Waits until the bound and the holder's share have a permit for a page.
async fn wait_for_permit(load: &Load, holder: Holder<'_>, bytes: usize) -> Permit {
    loop {
        if let Ok(permit) = load.page(holder, bytes) {
            return permit;
        }
        sleep(Duration::from_millis(rand::random_range(PERMIT_RETRY_MS))).await;
    }
}

fn rendered(page: &EventPage) -> String {
    // The buffer is allocated at once: a text that grows would take up to twice as much.
    let mut text = String::with_capacity(page.bytes() + FIELD_BYTES * (page.events.len() + 2));
    if let Some(gap) = page.gap {
        let data = json!({"after": gap.after, "oldest": gap.oldest});
        write_event(&mut text, gap.oldest, "gap", &data.to_string());
    }
    for event in &page.events {
        let id = Cursor::behind(event.position);
        write_event(&mut text, id, &event.kind, &event.body);
    }
    text
}

fn write_event(text: &mut String, id: Cursor, kind: &str, data: &str) {
    // Writing to a string does not fail.
    let _written = writeln!(text, "event: {kind}");
    // An event is stored in one line. If it had several, each would become a `data` field.
    for line in data.lines() {
        let _written = writeln!(text, "data: {line}");
    }
    // The id comes last: fetch-event-source 2 considers an event seen once it has read the id, even
    // if the connection breaks before the rest.
    let _written = write!(text, "id: {id}\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::Gap;
    use crate::types::event::LoggedEvent;

    #[test]
    fn the_gap_of_a_page_is_written_before_its_events() {
        let event = |position, body: &str| LoggedEvent {
            position,
            id: "evt_1".to_owned(),
            kind: "message.created".to_owned(),
            body: body.to_owned(),
            user_id: None,
        };
        let page = EventPage {
            events: vec![event(10, r#"{"n":1}"#), event(11, "{\n\"n\":2}")],
            next: Cursor::behind(11),
            gap: Some(Gap {
                after: Cursor::behind(3),
                oldest: Cursor::behind(9),
            }),
        };

        assert_eq!(
            rendered(&page),
            "event: gap\ndata: {\"after\":\"c3\",\"oldest\":\"c9\"}\nid: c9\n\n\
             event: message.created\ndata: {\"n\":1}\nid: ca\n\n\
             event: message.created\ndata: {\ndata: \"n\":2}\nid: cb\n\n"
        );
    }

    #[test]
    fn a_stream_begins_with_a_comment_and_a_retry_time() {
        let beginning = String::from_utf8(beginning().into()).unwrap();

        let retry = beginning.strip_prefix(":\nretry: ").unwrap();
        let retry = retry.strip_suffix('\n').unwrap();
        assert!(
            RETRY_MILLISECONDS.contains(&retry.parse().unwrap()),
            "{retry}"
        );
    }
}
