//! What an answer of the Cloud means: the one place that tells success from each kind of failure.
//!
//! A part of the answer speaks for itself before the answer as a whole does: its `code` decides first, then its
//! `errorCode`, then the HTTP status. The Cloud refuses with status 200 and answers half of a batch with status 400,
//! so no status proves anything alone.
//!
//! Gateways in front of the Cloud answer with HTML, plain text, nothing, or JSON of their own. Such an answer is no verdict on
//! the request: a redirect or 4xx status from them is an outage of the host ([`Error::Blocked`]), but for the few that speak of
//! the request's own size or form.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use crate::http::{Answer, StatusCode, retry_after};
use crate::telemetry::log::one_line;
use crate::types::ids::ConversationId;

/// 200 characters: the Cloud's words are repeated to channels and in logs.
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

/// The body of what the request with this id was answered with, from an answer that is one envelope or an array of them.
///
/// Where that request has no envelope of its own, it shares the failure of `before`, which was to be done before it.
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
    let is_lone = envelopes.len() == 1;
    // Never by position. What bears no id speaks of the answer as a whole.
    let position = envelopes
        .iter()
        .position(|envelope| envelope.bears(id))
        .or_else(|| {
            let shares = |part: &Envelope| before.is_some_and(|id| part.bears(id)) && part.fails();
            envelopes.iter().position(shares)
        })
        .or_else(|| {
            // To a request that was made alone a lone part is the answer, whatever it calls the request.
            let is_whole = is_lone && before.is_none();
            let speaks =
                |part: &Envelope| is_whole || !part.names_a_request() && (is_lone || part.fails());
            envelopes.iter().position(speaks)
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

/// The conversation that the body of an answer names, as text or as a number.
pub(super) fn conversation_in(body: &Value) -> Option<ConversationId> {
    // The second is the name that notifications have for it.
    let id = ["conversationId", "convId"].map(|name| Envelope::scalar(body.get(name)));
    id.into_iter().flatten().find_map(|id| id.parse().ok())
}

/// The conversation that an answer names in a part that succeeded, where no part says which request it answers.
pub(super) fn unnamed_conversation(answer: &Answer) -> Option<ConversationId> {
    let parts = envelopes(&answer.body);
    if parts.iter().any(Envelope::names_a_request) {
        return None;
    }
    let succeeded = parts.iter().filter(|part| part.succeeds(answer.status));
    let mut named = succeeded.filter_map(|part| conversation_in(part.body()));
    named.next().filter(|_| named.next().is_none())
}

/// What the request with this id failed with, where the answer says so.
pub(super) fn refusal_of(answer: &Answer, id: &str, now: DateTime<Utc>) -> Option<Error> {
    envelopes(&answer.body)
        .iter()
        .find(|envelope| envelope.bears(id) && envelope.fails())
        .map(|envelope| failure(answer, Some(envelope), Subject::Other, now))
}

/// The answer of an endpoint that knows no envelopes.
pub(super) fn decode<T: DeserializeOwned>(answer: &Answer, now: DateTime<Utc>) -> Result<T, Error> {
    let envelopes = envelopes(&answer.body);
    let envelope = envelopes.first();
    if !answer.status.is_success() || envelope.is_some_and(Envelope::fails) {
        return Err(failure(answer, envelope, Subject::Other, now));
    }
    serde_json::from_slice(without_mark(&answer.body)).map_err(|_| undecodable(answer))
}

/// Makes sure that an endpoint whose answers hold nothing has done what was asked.
pub(super) fn accepted(answer: &Answer, now: DateTime<Utc>) -> Result<(), Error> {
    if answer.status.is_success() {
        Ok(())
    } else {
        Err(failure(answer, None, Subject::Other, now))
    }
}

/// True if this status of an answer that is not the Cloud's own says nothing of the request: 401 is for
/// whoever makes tokens, 429 and 5xx speak for themselves, and some speak of the request's size or form.
fn is_a_gateways(status: u16, answer: &Answer) -> bool {
    match status {
        401 | 408 | 413 | 414 | 415 | 429 | 431 => false,
        // The services behind answer these too, but never with a page.
        400 | 422 => is_page(answer),
        300..500 => true,
        _ => false,
    }
}

/// True if the body is HTML.
fn is_page(answer: &Answer) -> bool {
    without_mark(&answer.body)
        .trim_ascii_start()
        .starts_with(b"<")
}

/// The body without the byte order mark that some proxies and frameworks write.
fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The error of an answer that lacks what it should hold.
pub(super) fn undecodable(answer: &Answer) -> Error {
    Error::Undecodable {
        status: answer.status.as_u16(),
    }
}

/// The usual answer: a lone part that says that all went well.
#[derive(Deserialize)]
struct Success<'a, T> {
    #[serde(borrow, rename = "reqId")]
    id: Cow<'a, str>,
    #[serde(borrow)]
    code: Cow<'a, str>,
    body: T,
}

/// The body of the usual answer, which is read in one go: that of the request with this id, or of whichever request was made
/// alone. Any other is left to the rules for all: they come to the same for this one.
fn success<T: DeserializeOwned>(body: &[u8], id: &str, before: Option<&str>) -> Option<T> {
    let success: Success<'_, T> = serde_json::from_slice(body).ok()?;
    let is_ours = before.is_none() || success.id == id;
    (is_ours && is_success(&success.code)).then_some(success.body)
}

/// One part of an answer.
struct Envelope(Value);

fn envelopes(body: &[u8]) -> Vec<Envelope> {
    match serde_json::from_slice(without_mark(body)) {
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

    /// A number or text, as text.
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

    /// Whether this answers the request with this id, which comes back as text or as a number.
    fn bears(&self, id: &str) -> bool {
        Self::scalar(self.0.get("reqId")).is_some_and(|req_id| req_id == id)
    }

    /// The name or number of how it went, such as `OK`, `BAD_REQUEST`, 200 or 401.
    fn code(&self) -> Option<String> {
        Self::scalar(self.0.get("code"))
    }

    /// The vendor's stable number of an error, such as 40102.
    fn error_code(&self) -> Option<String> {
        [self.body().get("errorCode"), self.0.get("errorCode")]
            .into_iter()
            .find_map(Self::scalar)
    }

    /// True if the Cloud wrote this part, rather than a gateway that answers with JSON of its own.
    fn is_of_the_cloud(&self) -> bool {
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

    /// The words in which it says what happened.
    fn words(&self) -> Option<&str> {
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

/// The HTTP status that a code stands for, by its number or by its name (`BAD_REQUEST`).
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
        // 40104 and 40105 are swapped between the vendor's table and its example: neither can be acted on.
        _ => {}
    }
    let is_ours = envelope.is_some_and(Envelope::is_of_the_cloud);
    let said = match envelope {
        Some(Envelope(part)) => part.to_string().to_lowercase(),
        None => String::from_utf8_lossy(&answer.body).to_lowercase(),
    };
    let status = code
        .as_deref()
        .and_then(status_of)
        .unwrap_or(answer.status.as_u16());
    // A page may say anything.
    if !is_page(answer)
        && let Some(error) = state_of_conversation(subject, status, is_ours, &said)
    {
        return error;
    }
    let retry_after = retry_after(&answer.headers, now);
    let title = || {
        envelope
            .and_then(Envelope::words)
            .map_or_else(|| reason(status), line)
    };
    let code_of_refusal = || error_code.or(code).map(|code| line(&code));
    match status {
        429 => Error::Throttled { retry_after },
        // 408 is a gateway's: the request did not reach it whole.
        408 | 500..600 => Error::Unavailable {
            status,
            retry_after,
        },
        401 => Error::Unauthorized {
            is_bare: !is_ours,
            title: title(),
            code: code_of_refusal(),
        },
        _ if !is_ours && is_a_gateways(status, answer) => Error::Blocked { status },
        _ => Error::Refused {
            status,
            title: title(),
            code: code_of_refusal(),
        },
    }
}

/// The error of a refusal that speaks of the state of the consumer's conversation: by its status where
/// the request names that conversation, else by its words.
///
/// One wording of each is documented; the others are what the vendor's services and their like say.
/// Taking too much for closed does little harm: the Cloud refuses to open a second conversation while
/// one is open.
fn state_of_conversation(
    subject: Subject,
    status: u16,
    is_ours: bool,
    said: &str,
) -> Option<Error> {
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    match subject {
        Subject::Opening => {
            let is_open = says(&["already"]) && says(&["open", "exist"]) && says(&["conversation"]);
            (is_open || (is_ours && status == 409)).then_some(Error::AlreadyOpen)
        }
        Subject::Conversation => {
            let is_gone = is_ours && matches!(status, 404 | 410);
            let is_over = says(&["conversation", "dialog"]) && says(&OVER);
            (is_gone || is_over).then_some(Error::ConversationClosed)
        }
        Subject::Other => says(&["conversation is close"]).then_some(Error::ConversationClosed),
    }
}

/// Words for a conversation that is over or not known.
const OVER: [&str; 9] = [
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

/// The words that HTTP has for a status: all there is to say of an answer without words of its own.
fn reason(status: u16) -> String {
    StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason())
        .unwrap_or("Refused")
        .to_owned()
}

/// The Cloud's words, made safe to repeat.
fn line(text: &str) -> String {
    one_line(text, MAX_TITLE_CHARS)
}

#[cfg(test)]
mod tests;
