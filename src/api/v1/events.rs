//! The events of a channel, as the channel reads them.

mod stream;

use std::time::Duration;

use axum::Json as Body;
use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::api::auth::AuthChannel;
use crate::api::extract::Query;
use crate::api::load::{Load, page_limit_problem};
use crate::api::problem::{CURSOR_UNKNOWN, Code, Problem};
use crate::bridge::{self, Bridge, EventPage};
use crate::types::event::{self, Cursor, Event};
use crate::types::ids::Invalid;
use crate::web::negotiation::{self, Format};

/// The header in which a stream's reader sends the id of the last event that it has seen.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// The query parameter with the same meaning, as event-source-polyfill names it.
const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// The query parameters of the events.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParameters {
    /// The `next` of the previous page. If it is missing or empty, the list begins at the oldest
    /// stored event.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: MaybeCursor,
    /// For a stream only: the `id` of the last event that was seen, for a reader that cannot send
    /// the header `Last-Event-ID`. It takes precedence over `after`, which such a reader repeats
    /// from its first request. An empty value counts as missing.
    #[serde(default, rename = "lastEventId")]
    #[param(value_type = Option<String>)]
    last_event_id: MaybeCursor,
    /// The maximum number of events. A page has fewer if their total size would exceed 1 MiB. The
    /// limit does not apply to a stream.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
    /// The number of seconds to wait for an event if there is none yet. A stream always waits.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 30, default = 0)]
    wait: Wait,
}

/// An optional cursor. An empty text counts as missing, because many clients write a missing cursor
/// in that way.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::api) struct MaybeCursor(pub(in crate::api) Option<Cursor>);

impl TryFrom<String> for MaybeCursor {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        text.parse().map(|cursor| Self(Some(cursor)))
    }
}

/// The maximum number of items in a page.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(in crate::api) struct Limit(pub(in crate::api) u32);

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<String> for Limit {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        number(&text)
            .filter(|limit| (1..=1000).contains(limit))
            .map(Self)
            .ok_or(Invalid {
                expected: "a whole number from 1 to 1000",
            })
    }
}

/// The number of seconds for which a response may wait.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(try_from = "String")]
struct Wait(u32);

impl TryFrom<String> for Wait {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        number(&text)
            .filter(|seconds| *seconds <= 30)
            .map(Self)
            .ok_or(Invalid {
                expected: "a whole number of seconds from 0 to 30",
            })
    }
}

/// Parses digits only. Rust's own parser also accepts a sign.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// A page of a channel's events.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "events": [event::example()],
    "next": "c1f5",
}))]
pub(super) struct EventList {
    /// The events, in the order of the event log.
    #[schema(value_type = Vec<Event>)]
    events: Vec<Box<RawValue>>,
    /// The value of `after` for the next page. It is unchanged if this page is empty.
    #[schema(value_type = String, example = "c1f5")]
    next: Cursor,
    /// True if events after `after` were already removed, so that some were missed. Left out
    /// otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    gap: bool,
}

impl TryFrom<EventPage> for EventList {
    type Error = Problem;

    fn try_from(page: EventPage) -> Result<Self, Problem> {
        let events = page.events.into_iter();
        let events = events.map(|event| RawValue::from_string(event.body));
        Ok(Self {
            events: events
                .collect::<Result<_, _>>()
                .map_err(|_| Problem::new(Code::InternalError, "A stored event is not JSON."))?,
            next: page.next,
            gap: page.gap.is_some(),
        })
    }
}

/// The cursor of the last event that a stream's reader has seen. A reader sends it in a header when
/// it reconnects.
#[derive(Debug, IntoParams)]
#[into_params(names("Last-Event-ID"), parameter_in = Header)]
pub(super) struct LastEventId(
    /// For a stream only: the `id` of the last event that was seen. It takes precedence over
    /// `lastEventId` and `after`. An empty value counts as missing.
    #[param(value_type = String, required = false)]
    Option<Cursor>,
);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(LAST_EVENT_ID) else {
            return Ok(Self(None));
        };
        // A value that is not text is not a cursor either.
        let text = String::from_utf8_lossy(value.as_bytes());
        MaybeCursor::try_from(text.into_owned())
            .map(|MaybeCursor(cursor)| Self(cursor))
            .map_err(|error| Problem::parameter(LAST_EVENT_ID, error.to_string()))
    }
}

/// Reads the channel's events: at once, when there are some, or as a stream.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    operation_id = "listEvents",
    params(ListParameters, LastEventId),
    responses((
        status = 200,
        description = "The events. If `Accept` prefers `text/event-stream` to `application/json`, the response is a stream of \
                       server-sent events that continues until either side ends it: `event` is the type of an event, `data` \
                       the event as JSON, `id` the cursor after it. If events after the cursor are no longer stored, an event \
                       `gap` comes first, with the data `{\"after\": CURSOR, \"oldest\": CURSOR}`. A stream begins with a \
                       comment, and another one follows after 8 to 15 seconds without an event. An `Accept` that includes \
                       neither type is ignored: the response is JSON",
        content(
            (EventList = "application/json"),
            (
                String = "text/event-stream",
                example = ":\nretry: 2000\nevent: message.created\ndata: {\"id\":\"evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f\",\
                           \"type\":\"message.created\",\"channel\":\"sms\",\"user_id\":\"alice\",\
                           \"conversation_id\":\"5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21\",\
                           \"occurred_at\":\"2026-11-22T08:00:30.250Z\",\"data\":{\"sequence\":3,\
                           \"dialog_id\":\"5a4d9b1e-1c5e-4c0a-9f57-0d8a3c1e7b21\",\
                           \"sender\":{\"id\":\"2b8f6c1d-3e4a-5b6c-8d7e-9f0a1b2c3d4e\",\"role\":\"agent\"},\
                           \"text\":\"Your parcel is on its way.\"}}\nid: c1f5\n\n",
            ),
        ),
    )),
)]
pub(super) async fn list(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Query(parameters): Query<ListParameters>,
    LastEventId(last_seen): LastEventId,
    State(load): State<Load>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let MaybeCursor(after) = parameters.after;
    if wants_stream(&headers) {
        // The header belongs to this request, while the URL may be the one of the reader's first
        // request.
        let named = [
            (LAST_EVENT_ID, last_seen),
            (LAST_EVENT_ID_PARAMETER, parameters.last_event_id.0),
            ("after", after),
        ];
        let named = named.into_iter().find(|(_, cursor)| cursor.is_some());
        let cursor = named.and_then(|(_, cursor)| cursor);
        let events = bridge.follow_events(&caller, cursor).await;
        let events = events.map_err(|error| match (error, named) {
            (bridge::Error::CursorUnknown, Some((name, _))) => {
                Problem::parameter(name, CURSOR_UNKNOWN.to_owned())
            }
            (error, _) => error.into(),
        })?;
        return Ok(stream::respond(events, load));
    }
    if parameters.last_event_id.0.is_some() {
        let detail =
            "expected only for a stream (Accept: text/event-stream); for a page use `after`";
        return Err(Problem::parameter(
            LAST_EVENT_ID_PARAMETER,
            detail.to_owned(),
        ));
    }
    let wait = Duration::from_secs(parameters.wait.0.into());
    let page = bridge
        .events(&caller, after, parameters.limit.0, wait)
        .await?;
    let permit = load.page(caller.holder(), page.bytes());
    let permit = permit.map_err(page_limit_problem)?;
    let page = Body(EventList::try_from(page)?).into_response();
    Ok(permit.attach_to(page))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter();
    let accept = accept.filter_map(|line| line.to_str().ok());
    negotiation::preferred(accept, Format::Json) == Format::EventStream
}
