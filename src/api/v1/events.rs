//! A channel's events, read by the channel.

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
use crate::api::load::{Load, no_room_for_page};
use crate::api::problem::{CURSOR_UNKNOWN, Code, Problem};
use crate::bridge::{self, Bridge, EventPage};
use crate::types::event::{Cursor, Event};
use crate::types::ids::Invalid;
use crate::web::negotiation::{self, Format};

/// The header in which a stream's reader names the last event that it has seen.
const LAST_EVENT_ID: &str = "Last-Event-ID";

/// The same as a parameter of the query, as event-source-polyfill names it.
const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// What part of the events is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Asked {
    /// The `next` of the answer before; left out or empty: from the oldest event that is kept.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "c1f4")]
    after: MaybeCursor,
    /// For a stream alone: the `id` of the last event that was seen, from a reader that cannot send
    /// the header `Last-Event-ID`. It goes before `after`, which such a reader repeats from its
    /// first request. Empty counts as left out.
    #[serde(default, rename = "lastEventId")]
    #[param(value_type = Option<String>, example = "c1f4")]
    last_event_id: MaybeCursor,
    /// How many events at most; there are fewer where they have more than 1 MiB together. A stream has no such limit.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000, default = 100)]
    limit: Limit,
    /// For how many seconds the answer waits for an event where there is none; a stream always waits.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 0, maximum = 30, default = 0)]
    wait: Wait,
}

/// A cursor that may be left out. An empty text counts as left out: many clients write so that they
/// have none.
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

/// How many things a page may have.
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

/// How many seconds an answer may wait.
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

/// A number of digits alone: Rust would take a sign too.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

/// A part of a channel's events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EventList {
    /// The events, in the order in which they came.
    #[schema(value_type = Vec<Event>)]
    events: Vec<Box<RawValue>>,
    /// What to ask for next, as `after`; where there was no event, it is the same as before.
    #[schema(value_type = String, example = "c1f5")]
    next: Cursor,
    /// `true` where events behind `after` are not kept any more, so that some were missed; else left out.
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
            events: events.collect::<Result<_, _>>().map_err(|_| {
                Problem::new(Code::InternalError, "An event that is kept is no JSON.")
            })?,
            next: page.next,
            gap: page.gap.is_some(),
        })
    }
}

/// The cursor of the last event that a stream's reader has seen, from the header of a reader who comes again.
#[derive(Debug, IntoParams)]
#[into_params(names("Last-Event-ID"), parameter_in = Header)]
pub(super) struct LastEventId(
    /// For a stream: the `id` of the last event that was seen. It goes before `lastEventId` and
    /// `after`. Empty counts as left out.
    #[param(value_type = String, required = false, example = "c1f4")]
    Option<Cursor>,
);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(LAST_EVENT_ID) else {
            return Ok(Self(None));
        };
        // A value that is no text is no cursor either.
        let text = String::from_utf8_lossy(value.as_bytes());
        MaybeCursor::try_from(text.into_owned())
            .map(|MaybeCursor(cursor)| Self(cursor))
            .map_err(|error| Problem::parameter(LAST_EVENT_ID, error.to_string()))
    }
}

/// Reads the channel's events, at once, when there are some, or as a stream.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "events",
    operation_id = "listEvents",
    params(Asked, LastEventId),
    responses((
        status = 200,
        description = "The events. Where `Accept` prefers `text/event-stream` to `application/json`, a stream of \
                       server-sent events that goes on until either side ends it: `event` is the type of an event, `data` \
                       the event as JSON, `id` the cursor behind it. Where the cursor is older than what is kept, an event \
                       `gap` comes first, with the data `{\"after\": CURSOR, \"oldest\": CURSOR}`. A stream begins with a \
                       comment, and another one follows after every 15 seconds without an event. An `Accept` that takes \
                       neither counts as left out: JSON",
        content(
            (EventList = "application/json"),
            (String = "text/event-stream", example = "event: message.created\ndata: {\"id\": \"evt_…\", …}\nid: c1f5\n\n"),
        ),
    )),
)]
pub(super) async fn list(
    AuthChannel(caller): AuthChannel,
    State(bridge): State<Bridge>,
    Query(asked): Query<Asked>,
    LastEventId(last_seen): LastEventId,
    State(load): State<Load>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let MaybeCursor(after) = asked.after;
    if wants_stream(&headers) {
        // The header is of this request; a URL may be one that the reader has kept since its first
        // request.
        let named = [
            (LAST_EVENT_ID, last_seen),
            (LAST_EVENT_ID_PARAMETER, asked.last_event_id.0),
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
    if asked.last_event_id.0.is_some() {
        let detail = "expected for a stream (Accept: text/event-stream) alone; a page goes on behind `after`";
        return Err(Problem::parameter(
            LAST_EVENT_ID_PARAMETER,
            detail.to_owned(),
        ));
    }
    let wait = Duration::from_secs(asked.wait.0.into());
    let page = bridge.events(&caller, after, asked.limit.0, wait).await?;
    let place = load.page(caller.holder(), page.bytes());
    let place = place.map_err(no_room_for_page)?;
    let page = Body(EventList::try_from(page)?).into_response();
    Ok(place.held_by(page))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter();
    let accept = accept.filter_map(|line| line.to_str().ok());
    negotiation::preferred(accept, Format::Json) == Format::EventStream
}
