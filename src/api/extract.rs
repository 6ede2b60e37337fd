//! Extractors that reject a request with a problem. It names the error, and quotes nothing that a
//! user wrote.

mod query;
mod strict;

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::{Body, Bytes};
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use http_body::Body as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use tokio_util::bytes::BytesMut;
use utoipa::IntoParams;

use super::bounds::JSON_LIMIT;
use super::problem::{Code, Problem, pointer_to};
use crate::bridge;
use crate::types::event::EventId;
use crate::types::file::FileId;
use crate::types::ids::UserId;
use crate::types::{links, surrogates};
use strict::Strict;

pub(super) use query::Query;

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

/// A JSON body that may be left out.
pub(super) struct OptionalJson<T>(pub(super) T);

/// The `user_id` of the path.
#[derive(IntoParams)]
#[into_params(names("user_id"), parameter_in = Path)]
pub(super) struct User(
    /// The channel's own id for the user.
    #[param(example = "alice")]
    pub(super) UserId,
);

/// The `event_id` of the path.
#[derive(IntoParams)]
#[into_params(names("event_id"), parameter_in = Path)]
pub(super) struct EventPath(
    /// The id of the event.
    #[param(value_type = String, example = "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) EventId,
);

/// The `file_id` of the path.
#[derive(IntoParams)]
#[into_params(names("file_id"), parameter_in = Path)]
pub(super) struct File(
    /// The id that the bridge gave to the file.
    #[param(value_type = String, example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub(super) FileId,
);

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        require_json(request.headers())?;
        let body = read_json(request).await?;
        parse(&body).map(Self)
    }
}

impl<T, S> FromRequest<S> for OptionalJson<T>
where
    T: DeserializeOwned + Default,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let media_type = require_json(request.headers());
        let body = read_json(request).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        media_type?;
        parse(&body).map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            user_id: String,
        }
        let malformed = |detail: String| Problem::new(Code::MalformedRequest, detail);
        let named = Path::from_request_parts(parts, state).await;
        let Path(Named { user_id }) = named.map_err(|rejection| {
            let name = undecodable(&rejection).unwrap_or("user_id");
            malformed(format!(
                "The path's {name}: expected percent-encoded UTF-8."
            ))
        })?;
        UserId::try_from(user_id)
            .map(Self)
            .map_err(|error| malformed(format!("The path's user_id: {error}.")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for File {
    type Rejection = Problem;

    /// An id is opaque: a malformed one is treated as unknown.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            file_id: String,
        }
        Path::from_request_parts(parts, state)
            .await
            .ok()
            .and_then(|Path(Named { file_id })| file_id.parse().ok())
            .map(Self)
            .ok_or_else(|| bridge::Error::FileNotFound.into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for EventPath {
    type Rejection = Problem;

    /// An id is opaque: a malformed one is treated as unknown.
    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Named {
            event_id: String,
        }
        Path::from_request_parts(parts, state)
            .await
            .ok()
            .and_then(|Path(Named { event_id })| event_id.parse().ok())
            .map(Self)
            .ok_or_else(|| bridge::Error::EventNotFound.into())
    }
}

/// Refuses a path or query with a percent sign that begins no percent-encoded byte. Taken
/// literally, `50%off` and `50%25off` would name the same user. An adapter that forgets to encode
/// would also go unnoticed until two hexadecimal digits happen to follow a percent sign.
pub(super) fn check_encoding(uri: &Uri) -> Result<(), Problem> {
    let parts = [("path", Some(uri.path())), ("query", uri.query())];
    for (name, part) in parts {
        if !part.is_none_or(links::is_percent_encoded) {
            return Err(Problem::new(
                Code::MalformedRequest,
                format!(
                    "The {name}: expected two hexadecimal digits after each percent sign; a literal percent sign is %25."
                ),
            ));
        }
    }
    Ok(())
}

/// Returns the name of the path parameter that is not UTF-8.
fn undecodable(rejection: &PathRejection) -> Option<&str> {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return None;
    };
    match error.kind() {
        ErrorKind::InvalidUtf8InPathParam { key } => Some(key),
        _ => None,
    }
}

/// Refuses a body that is not declared as JSON, or that is compressed.
fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let is_plain = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    let codings = headers.get_all(header::CONTENT_ENCODING);
    if !codings.iter().all(|coding| is_plain(coding.as_bytes())) {
        return Err(Problem::new(
            Code::UnsupportedMediaType,
            "Expected a body without Content-Encoding.",
        ));
    }
    let essence = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or(value).trim());
    match essence {
        Some(essence) if essence.eq_ignore_ascii_case("application/json") => Ok(()),
        Some(_) => Err(Problem::new(
            Code::UnsupportedMediaType,
            "Expected Content-Type: application/json.",
        )),
        None => Err(Problem::new(
            Code::UnsupportedMediaType,
            "Expected Content-Type: application/json, found none.",
        )),
    }
}

/// Reads a JSON body to its end, within the limit.
pub(super) async fn read_json(request: Request) -> Result<Bytes, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // A body with a declared length above the limit is refused before any of it is read.
    if length.is_some_and(|length| length > JSON_LIMIT as u64) {
        return Err(too_large());
    }
    let body = read_to_end(request.into_body(), JSON_LIMIT).await;
    body.map_err(|error| match error {
        ReadError::TooLarge => too_large(),
        ReadError::Broken => Problem::of_status(StatusCode::BAD_REQUEST),
    })
}

/// The reason for which a body was not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadError {
    /// It is longer than the limit.
    TooLarge,
    /// The connection broke off, or the body was cut.
    Broken,
}

/// Reads a body of at most `limit` bytes to its end. Even a body in many small pieces is in memory
/// only once.
pub(super) async fn read_to_end(mut body: Body, limit: usize) -> Result<Bytes, ReadError> {
    // Nearly every body comes in one piece.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| ReadError::Broken)?.into_data() else {
            continue;
        };
        let length = first.len().max(joined.len());
        if length + data.len() > limit {
            return Err(ReadError::TooLarge);
        }
        if length == 0 {
            first = data;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&std::mem::take(&mut first));
        }
        joined.extend_from_slice(&data);
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

fn too_large() -> Problem {
    Problem::new(
        Code::BodyTooLarge,
        format!("A JSON body may have at most {JSON_LIMIT} bytes."),
    )
}

/// The error of a body that cannot be read, with the pointer to the member at which reading ended.
struct Unreadable {
    error: serde_json::Error,
    pointer: String,
}

/// Parses a JSON body. A lone surrogate, such as the half of an emoji that was cut in two, becomes
/// U+FFFD, as in the Cloud's notifications.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let read = parse_as_written(body).or_else(|unreadable| match str::from_utf8(body) {
        Ok(text) if unreadable.error.is_syntax() => {
            parse_as_written(surrogates::replace_unpaired(text).as_bytes())
        }
        _ => Err(unreadable),
    });
    read.map_err(problem)
}

fn parse_as_written<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(Strict(&mut json)).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        Unreadable { error, pointer }
    })?;
    json.end().map_err(|error| Unreadable {
        error,
        pointer: String::new(),
    })?;
    Ok(value)
}

fn problem(Unreadable { error, pointer }: Unreadable) -> Problem {
    if error.is_data() {
        violation(&error.to_string(), pointer)
    } else {
        Problem::new(
            Code::MalformedRequest,
            format!("The body is not valid JSON: {error}."),
        )
    }
}

/// Makes the problem for serde's message. The message may quote the value, which can be a user's
/// text, so only the part about the expected value is passed on.
fn violation(message: &str, pointer: String) -> Problem {
    // The message ends with the line and column, which the pointer replaces.
    let message = message
        .rsplit_once(" at line ")
        .map_or(message, |(message, _)| message);
    for (kind, detail) in [
        ("missing field `", "this member is required"),
        ("duplicate field `", "this member occurs twice"),
    ] {
        let name = message.strip_prefix(kind).and_then(|n| n.strip_suffix('`'));
        if let Some(name) = name {
            return Problem::violation(format!("{pointer}/{name}"), detail.to_owned());
        }
    }
    let is_unknown = message.starts_with("unknown field");
    let detail = match message.rsplit_once(", expected ") {
        Some((_, expected)) if is_unknown => format!("unknown member, expected {expected}"),
        Some((_, expected)) => format!("expected {}", json_type_name(expected)),
        None if is_unknown => "unknown member, expected none".to_owned(),
        None => message.to_owned(),
    };
    Problem::violation(pointer, detail)
}

/// Translates serde's names of Rust types.
fn json_type_name(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "i32" => "a whole number from -2147483648 to 2147483647",
        _ if expected.starts_with("struct ") => "an object",
        _ => expected,
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(pointer_to(key)),
            Segment::Enum { variant } => Some(format!("/{variant}")),
            Segment::Unknown => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::types::conversation::Opening;

    fn refusal(body: &str) -> serde_json::Value {
        let Err(problem) = parse::<Opening>(body.as_bytes()) else {
            panic!("{body} was accepted");
        };
        let code = problem.code().as_str();
        let errors = format!("{problem:?}");
        json!({"code": code, "debug": errors})
    }

    #[test]
    fn a_violation_names_the_member_by_its_pointer() {
        for (body, pointer) in [
            (r#"{"profil": {}}"#, "/profil"),
            (r#"{"profile": {"first_name": 1}}"#, "/profile/first_name"),
            (
                r#"{"profile": {"contacts": [{}, {"phone_type": "car"}]}}"#,
                "/profile/contacts/1/phone_type",
            ),
            (r#"{"routing": {"skill_id": ""}}"#, "/routing/skill_id"),
            (r#"{"routing": {"campaign_id": "1"}}"#, "/routing"),
            (r#"{"a/b~c": 1}"#, "/a~1b~0c"),
            (r#"{"urgency": 1}"#, "/urgency"),
            (r#"{"urgency": {"normal": null}}"#, "/urgency"),
            (r#"{"profile": []}"#, "/profile"),
            (
                r#"{"profile": {"first_name": "a\u0000"}}"#,
                "/profile/first_name",
            ),
            (r#"{"urgency": null, "urgency": null}"#, "/urgency"),
            ("[]", ""),
            ("null", ""),
        ] {
            let refusal = refusal(body);
            assert_eq!(refusal["code"], "invalid-request", "{body}");
            let debug = refusal["debug"].as_str().unwrap();
            assert!(
                debug.contains(&format!("pointer: {pointer:?}")),
                "{body}: {debug}"
            );
        }
    }

    #[test]
    fn a_violation_states_the_expectation_and_not_the_value() {
        for (message, pointer, detail) in [
            (
                "invalid type: string \"my card, expected 1234\", expected struct Opening at line 1 column 9",
                "/a",
                "expected an object",
            ),
            (
                "invalid value: integer `-2`, expected u32",
                "/a",
                "expected a whole number from 0 to 4294967295",
            ),
            (
                "unknown variant `soon`, expected `on` or `off`",
                "/a",
                "expected `on` or `off`",
            ),
            (
                "unknown field `x`, expected one of `b`, `c`",
                "/a",
                "unknown member, expected one of `b`, `c`",
            ),
            (
                "unknown field `x`, there are no fields",
                "/a",
                "unknown member, expected none",
            ),
            ("missing field `b`", "/a/b", "this member is required"),
            ("duplicate field `b`", "/a/b", "this member occurs twice"),
            ("expected 1 to 9", "/a", "expected 1 to 9"),
        ] {
            let problem = violation(message, "/a".to_owned());

            let debug = format!("{problem:?}");
            assert!(
                debug.contains(&format!("pointer: {pointer:?}, detail: {detail:?}")),
                "{debug}"
            );
        }
    }

    #[test]
    fn a_lone_surrogate_is_replaced_in_any_text_of_a_body() {
        let read = |body: &str| parse::<Opening>(body.as_bytes());

        for (half, expected) in [
            (r#""cut \ud83d""#, "cut \u{fffd}"),
            (r#""\udc4d\ud83d\udc4d""#, "\u{fffd}👍"),
            (r#""a\uD83D\\ud83d""#, "a\u{fffd}\\ud83d"),
        ] {
            let opening = read(&format!(r#"{{"profile": {{"first_name": {half}}}}}"#));
            let profile = opening.ok().and_then(|opening| opening.profile);
            assert_eq!(profile.unwrap().first_name.as_deref(), Some(expected));
        }
        // Other violations are still found.
        let elsewhere = refusal(r#"{"profile": {"first_name": "\ud83d", "last_name": 1}}"#);
        assert_eq!(elsewhere["code"], "invalid-request");
        assert!(
            elsewhere["debug"]
                .as_str()
                .unwrap()
                .contains("/profile/last_name")
        );
        let name = refusal(r#"{"\ud83d": 1}"#);
        assert!(
            name["debug"].as_str().unwrap().contains("/\u{fffd}"),
            "{name}"
        );
    }

    #[test]
    fn u_0000_is_refused_in_texts_and_member_names() {
        let read =
            |body: &str| parse::<serde_json::Map<String, serde_json::Value>>(body.as_bytes());

        for (body, pointer) in [
            (r#"{"a": "\u0000"}"#, "/a"),
            (r#"{"a": [{"b": "x\u0000"}]}"#, "/a/0/b"),
            (r#"{"\u0000": 1}"#, ""),
            (r#"{"a": [{"x\u0000": 1}]}"#, "/a/0"),
        ] {
            let problem = format!("{:?}", read(body).unwrap_err());
            let expected =
                format!("pointer: {pointer:?}, detail: \"expected text without U+0000\"");
            assert!(problem.contains(&expected), "{body}: {problem}");
        }
        assert!(read(r#"{"\\u0000": "\u0001\\u0000"}"#).is_ok());
    }

    #[test]
    fn a_uri_with_a_malformed_percent_escape_is_refused() {
        let check = |uri: &'static str| check_encoding(&Uri::from_static(uri)).is_ok();

        for good in ["/", "/50%25off?a=%2b", "https://b.example/%7c?", "*"] {
            assert!(check(good), "{good}");
        }
        for bad in ["/%zz", "/100%", "/a%2/b", "/50%off", "/?a=%", "/?%zz"] {
            assert!(!check(bad), "{bad}");
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_malformed() {
        for body in [
            "",
            "{",
            "{} {}",
            "{\"profile\": \u{1}}",
            "{\"profile\": {\"customer\": {\"balance\": 1e999}}}",
        ] {
            assert_eq!(refusal(body)["code"], "malformed-request", "{body:.20}");
        }
    }
}
