//! The classification of the Cloud's answers: the only place that tells success from each kind of
//! failure.
//!
//! An answer consists of one or more parts. A part's `code` decides first, then its `errorCode`,
//! then the HTTP status of the whole answer. The Cloud may refuse with status 200, and answer half
//! of a batch with status 400, so the status alone proves nothing.
//!
//! Gateways in front of the Cloud answer with HTML, plain text, nothing, or JSON of their own. Such
//! an answer says nothing about the request. A redirect or a 4xx status from a gateway counts as an
//! outage of the host ([`Error::Blocked`]), except for a few statuses about the request's size or
//! format.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use crate::http::{Answer, StatusCode, retry_after};
use crate::telemetry::log::sanitize_line;
use crate::types::ids::ConversationId;

/// 200 characters: the longest error text of the Cloud that is passed on to channels and logs.
const MAX_TITLE_CHARS: usize = 200;

/// The subject of a request, which decides what its refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A new conversation.
    Opening,
    /// The conversation or dialog that the request names.
    Conversation,
    /// Anything else.
    Other,
}

/// Reads the body of the answer to the request with this id. The answer is one part or an array of
/// parts.
///
/// A request without a part of its own shares the failure of `before`, the request that precedes it
/// in the batch.
pub(super) fn outcome<T: DeserializeOwned>(
    answer: &Answer,
    id: &str,
    before: Option<&str>,
    subject: Subject,
    now: DateTime<Utc>,
) -> Result<T, Error> {
    if let Some(body) = success(&answer.body, id, before) {
        return Ok(body);
    }
    let mut envelopes = envelopes(&answer.body);
    let is_single = envelopes.len() == 1;
    // Parts are matched by id and never by position. A part without an id is about the whole
    // answer.
    let position = envelopes
        .iter()
        .position(|envelope| envelope.answers_request(id))
        .or_else(|| {
            let shares_failure =
                |part: &Envelope| before.is_some_and(|id| part.answers_request(id)) && part.fails();
            envelopes.iter().position(shares_failure)
        })
        .or_else(|| {
            // If the request was sent alone, the only part answers it, whatever id the part has.
            let is_only_answer = is_single && before.is_none();
            let applies = |part: &Envelope| {
                is_only_answer || !part.names_a_request() && (is_single || part.fails())
            };
            envelopes.iter().position(applies)
        });
    match position.map(|position| envelopes.swap_remove(position)) {
        Some(envelope) if envelope.succeeds(answer.status) => {
            serde_json::from_value(envelope.into_body()).map_err(|_| undecodable(answer))
        }
        Some(envelope) => Err(failure(answer, Some(&envelope), subject, now)),
        None if answer.status.is_success() => Err(undecodable(answer)),
        None => Err(failure(answer, None, subject, now)),
    }
}

/// Returns the conversation that the body of an answer names, as text or as a number.
pub(super) fn conversation_in(body: &Value) -> Option<ConversationId> {
    // The second one is the name that notifications use.
    let id = ["conversationId", "convId"].map(|name| Envelope::scalar(body.get(name)));
    id.into_iter().flatten().find_map(|id| id.parse().ok())
}

/// Returns the conversation that a successful part names, if no part has a request id.
pub(super) fn conversation_without_request_id(answer: &Answer) -> Option<ConversationId> {
    let parts = envelopes(&answer.body);
    if parts.iter().any(Envelope::names_a_request) {
        return None;
    }
    let succeeded = parts.iter().filter(|part| part.succeeds(answer.status));
    let mut named = succeeded.filter_map(|part| conversation_in(part.body()));
    named.next().filter(|_| named.next().is_none())
}

/// Returns the error of the request with this id, if the answer reports one.
pub(super) fn refusal_of(answer: &Answer, id: &str, now: DateTime<Utc>) -> Option<Error> {
    envelopes(&answer.body)
        .iter()
        .find(|envelope| envelope.answers_request(id) && envelope.fails())
        .map(|envelope| failure(answer, Some(envelope), Subject::Other, now))
}

/// Decodes an answer that has no envelope.
pub(super) fn decode<T: DeserializeOwned>(answer: &Answer, now: DateTime<Utc>) -> Result<T, Error> {
    let envelopes = envelopes(&answer.body);
    let envelope = envelopes.first();
    if !answer.status.is_success() || envelope.is_some_and(Envelope::fails) {
        return Err(failure(answer, envelope, Subject::Other, now));
    }
    serde_json::from_slice(strip_bom(&answer.body)).map_err(|_| undecodable(answer))
}

/// Checks the status of an answer without content.
pub(super) fn check_status(answer: &Answer, now: DateTime<Utc>) -> Result<(), Error> {
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(failure(answer, None, Subject::Other, now))
    }
}

/// True if an answer with this status comes from a gateway and says nothing about the request. The
/// exceptions have their own meaning: 401 is about tokens, 429 and 5xx are about the host, and a
/// few are about the request's size or format.
fn is_gateway_status(status: u16, answer: &Answer) -> bool {
    match status {
        401 | 408 | 413 | 414 | 415 | 429 | 431 => false,
        // The services themselves answer these too, but never with a page.
        400 | 422 => is_html(answer),
        300..500 => true,
        _ => false,
    }
}

/// True if the body is HTML.
fn is_html(answer: &Answer) -> bool {
    strip_bom(&answer.body).trim_ascii_start().starts_with(b"<")
}

/// Returns the body without the byte order mark that some proxies and frameworks write.
fn strip_bom(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns the error for an answer that lacks what it should contain.
pub(super) fn undecodable(answer: &Answer) -> Error {
    Error::Undecodable {
        status: answer.status.as_u16(),
    }
}

/// The usual answer: a single part that reports success.
#[derive(Deserialize)]
struct Success<'a, T> {
    #[serde(borrow, rename = "reqId")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    body: T,
}

/// Reads the body of the usual answer in one pass; `None` for every other answer. This is faster
/// than the general rules and gives the same result. The part must have this id, unless the request
/// was sent alone.
fn success<T: DeserializeOwned>(body: &[u8], id: &str, before: Option<&str>) -> Option<T> {
    let success: Success<'_, T> = serde_json::from_slice(body).ok()?;
    let is_answer = before.is_none() || success.id == id;
    (is_answer && is_success(&success.code)).then_some(success.body)
}

/// One part of an answer.
struct Envelope(Value);

fn envelopes(body: &[u8]) -> Vec<Envelope> {
    match serde_json::from_slice(strip_bom(body)) {
        Ok(Value::Array(parts)) => parts.into_iter().map(Envelope).collect(),
        Ok(part @ Value::Object(_)) => vec![Envelope(part)],
        _ => Vec::new(),
    }
}

impl Envelope {
    fn body(&self) -> &Value {
        self.0.get("body").unwrap_or(&Value::Null)
    }

    fn into_body(mut self) -> Value {
        self.0.get_mut("body").map(Value::take).unwrap_or_default()
    }

    /// Returns a number or a string as text.
    fn scalar(value: Option<&Value>) -> Option<String> {
        match value? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    fn names_a_request(&self) -> bool {
        self.0.get("reqId").is_some_and(|id| !id.is_null())
    }

    /// True if this part answers the request with this id. The Cloud returns the id as text or as a
    /// number.
    fn answers_request(&self, id: &str) -> bool {
        Self::scalar(self.0.get("reqId")).is_some_and(|req_id| req_id == id)
    }

    /// Returns the name or number of the outcome, such as `OK`, `BAD_REQUEST`, 200 or 401.
    fn code(&self) -> Option<String> {
        Self::scalar(self.0.get("code"))
    }

    /// Returns the vendor's stable number of an error, such as 40102.
    fn error_code(&self) -> Option<String> {
        [self.body().get("errorCode"), self.0.get("errorCode")]
            .into_iter()
            .find_map(Self::scalar)
    }

    /// True if the Cloud wrote this part, and not a gateway that answers with JSON of its own.
    fn is_from_cloud(&self) -> bool {
        let is_answer = self.0.get("kind").is_some_and(|kind| kind == "resp");
        is_answer
            || self.error_code().is_some()
            || self.names_a_request()
            || (self.code().is_some() && self.0.get("body").is_some())
    }

    fn fails(&self) -> bool {
        match self.code() {
            Some(code) => !is_success(&code),
            None => self.error_code().is_some(),
        }
    }

    fn succeeds(&self, status: StatusCode) -> bool {
        match self.code() {
            Some(code) => is_success(&code),
            None => self.error_code().is_none() && status.is_success(),
        }
    }

    /// Returns the error text.
    fn error_text(&self) -> Option<&str> {
        let body = self.body();
        body.as_str().or_else(|| {
            [
                body.get("msg"),
                body.get("title"),
                body.get("details"),
                self.0.get("message"),
                self.0.get("error"),
            ]
            .into_iter()
            .flatten()
            .find_map(Value::as_str)
        })
    }
}

fn is_success(code: &str) -> bool {
    code.eq_ignore_ascii_case("OK") || matches!(code.parse(), Ok(200..300))
}

/// Returns the HTTP status that a code names, as a number or as text (`BAD_REQUEST`).
fn status_of(code: &str) -> Option<u16> {
    let is_named = |status: &u16| {
        StatusCode::from_u16(*status)
            .ok()
            .and_then(|status| status.canonical_reason())
            .is_some_and(|reason| reason.to_ascii_uppercase().replace([' ', '-'], "_") == code)
    };
    let mut errors = 400..600;
    match code.parse() {
        Ok(number) => errors.contains(&number).then_some(number),
        Err(_) => errors.find(is_named),
    }
}

fn failure(
    answer: &Answer,
    envelope: Option<&Envelope>,
    subject: Subject,
    now: DateTime<Utc>,
) -> Error {
    let code = envelope.and_then(Envelope::code);
    let error_code = envelope.and_then(Envelope::error_code);
    match error_code.as_deref() {
        Some("40102") => return Error::AppTokenRefused,
        Some("40103") => return Error::ConsumerTokenRefused,
        // 40104 and 40105 are swapped between the vendor's table and its example, so neither is
        // usable.
        _ => {}
    }
    let is_from_cloud = envelope.is_some_and(Envelope::is_from_cloud);
    let text = match envelope {
        Some(Envelope(part)) => part.to_string().to_lowercase(),
        None => String::from_utf8_lossy(&answer.body).to_lowercase(),
    };
    let status = code
        .as_deref()
        .and_then(status_of)
        .unwrap_or(answer.status.as_u16());
    // The text of an HTML page proves nothing.
    if !is_html(answer)
        && let Some(error) = state_of_conversation(subject, status, is_from_cloud, &text)
    {
        return error;
    }
    let retry_after = retry_after(&answer.headers, now);
    let title = || {
        envelope
            .and_then(Envelope::error_text)
            .map_or_else(|| reason_phrase(status), sanitize)
    };
    let code_of_refusal = || error_code.or(code).map(|code| sanitize(&code));
    match status {
        429 => Error::Throttled { retry_after },
        // 408 comes from a gateway: it did not receive the whole request.
        408 | 500..600 => Error::Unavailable {
            status,
            retry_after,
        },
        401 => Error::Unauthorized {
            is_from_gateway: !is_from_cloud,
            title: title(),
            code: code_of_refusal(),
        },
        _ if !is_from_cloud && is_gateway_status(status, answer) => Error::Blocked { status },
        _ => Error::Refused {
            status,
            title: title(),
            code: code_of_refusal(),
        },
    }
}

/// Returns the error of a refusal that is about the state of the consumer's conversation. The
/// status is enough if it is 404 or 410 for a request that names the conversation, or 409 for an
/// opening. Otherwise the error text decides.
///
/// One wording of each error is documented. The other wordings are those of the vendor's services
/// and of similar ones. If a refusal is wrongly treated as a closed conversation, it does little
/// harm: the Cloud refuses to open a second conversation while one is open.
fn state_of_conversation(
    subject: Subject,
    status: u16,
    is_from_cloud: bool,
    text: &str,
) -> Option<Error> {
    let contains_any = |phrases: &[&str]| phrases.iter().any(|phrase| text.contains(phrase));
    match subject {
        Subject::Opening => {
            let is_open = contains_any(&["already"])
                && contains_any(&["open", "exist"])
                && contains_any(&["conversation"]);
            (is_open || (is_from_cloud && status == 409)).then_some(Error::AlreadyOpen)
        }
        Subject::Conversation => {
            let is_unknown = is_from_cloud && matches!(status, 404 | 410);
            let is_closed =
                contains_any(&["conversation", "dialog"]) && contains_any(&CLOSED_WORDINGS);
            (is_unknown || is_closed).then_some(Error::ConversationClosed)
        }
        Subject::Other => {
            contains_any(&["conversation is close"]).then_some(Error::ConversationClosed)
        }
    }
}

/// Wordings for a conversation that is over or unknown.
const CLOSED_WORDINGS: [&str; 9] = [
    " is close",
    "closed",
    "not open",
    "not found",
    "not exist",
    "n't exist",
    "no such",
    "no longer",
    " ended",
];

/// Returns HTTP's reason phrase of a status, for an answer without an error text.
fn reason_phrase(status: u16) -> String {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused")
        .to_owned()
}

/// Makes the Cloud's error text safe to pass on: one line, limited in length.
fn sanitize(text: &str) -> String {
    sanitize_line(text, MAX_TITLE_CHARS)
}

#[cfg(test)]
mod tests;
