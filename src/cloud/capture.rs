//! Details of the Cloud's answers and tokens, for `doctor`.
//!
//! Errors tell a caller what to do. They drop the status, code and text of an answer whose meaning
//! is known. [`capture_answers`] runs any call of the client, and returns these details as well. It
//! does not return the bodies, which may hold tokens.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::{Client, ConsumerJws, Error, jwt};
use crate::http::Answer;
use crate::http::header::CONTENT_TYPE;
use crate::telemetry::log::sanitize_line;
use crate::types::ids::AccountId;
use crate::types::trace::Trace;

/// 200 characters: the longest error text that is captured.
const MAX_TEXT_CHARS: usize = 200;

tokio::task_local! {
    /// The answers that [`capture_answers`] has captured so far in this task.
    static CAPTURED: RefCell<Vec<RawAnswer>>;
}

/// An answer of the Cloud as it arrived, before it was classified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawAnswer {
    /// The name of the call in spans and metrics, such as `cloud.open`.
    pub operation: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The form of the body: `json`, `html`, `text` or `empty`.
    pub form: &'static str,
    /// The parts of a JSON body: its items, or the body itself.
    pub parts: Vec<RawPart>,
}

/// One part of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawPart {
    /// The name or number of the outcome, such as `OK`.
    pub code: Option<String>,
    /// The vendor's number of the error.
    pub error_code: Option<String>,
    /// The error text, in one line of at most 200 characters.
    pub error_text: Option<String>,
}

/// Runs a call and returns its outcome with the answers to all of its attempts.
///
/// Answers of the domain API are left out. If the call obtains an `AppJWT`, Sentinel's answer is
/// included.
pub async fn capture_answers<T>(call: impl Future<Output = T>) -> (T, Vec<RawAnswer>) {
    let capturing = async {
        let outcome = call.await;
        (outcome, CAPTURED.with(RefCell::take))
    };
    CAPTURED.scope(RefCell::default(), capturing).await
}

/// Records an answer, if the call runs in [`capture_answers`].
pub(super) fn record(operation: &'static str, answer: &Answer) {
    // Fails outside of `capture_answers`, which is the usual case.
    let _not_capturing = CAPTURED.try_with(|captured| {
        captured
            .borrow_mut()
            .push(RawAnswer::read(operation, answer));
    });
}

impl Client {
    /// Returns the claims of the account's `AppJWT`, whose signature cannot be checked for lack of
    /// a key.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn app_token_claims(
        &self,
        account: &AccountId,
        trace: &Trace,
    ) -> Result<Map<String, Value>, Error> {
        let token = self.client_of(account)?.tokens.get(trace).await?;
        Ok(claims(token.value.as_bytes()))
    }
}

impl ConsumerJws {
    /// Returns the token's claims. Its signature cannot be checked for lack of a key.
    #[must_use]
    pub fn claims(&self) -> Map<String, Value> {
        claims(self.expose())
    }
}

fn claims(token: &[u8]) -> Map<String, Value> {
    let token = std::str::from_utf8(token).ok();
    token.and_then(jwt::claims).unwrap_or_default()
}

impl RawAnswer {
    fn read(operation: &'static str, answer: &Answer) -> Self {
        // Some proxies and frameworks write a byte order mark.
        let body = answer.body.strip_prefix(b"\xef\xbb\xbf");
        let body = body.unwrap_or(&answer.body);
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let media_type = answer.headers.get(CONTENT_TYPE);
        let media_type = media_type.and_then(|value| value.to_str().ok());
        let is_html = media_type.is_some_and(|it| it.contains("html"))
            || body.trim_ascii_start().starts_with(b"<");
        let form = match &json {
            Some(_) => "json",
            None if body.is_empty() => "empty",
            None if is_html => "html",
            None => "text",
        };
        let parts = match json {
            Some(Value::Array(parts)) => parts.iter().map(RawPart::read).collect(),
            Some(part @ Value::Object(_)) => vec![RawPart::read(&part)],
            _ => Vec::new(),
        };
        Self {
            operation,
            status: answer.status.as_u16(),
            form,
            parts,
        }
    }

    /// Returns the error text of the last part that has one. In a batch, the last part answers the
    /// request itself.
    #[must_use]
    pub fn error_text(&self) -> Option<&str> {
        self.parts
            .iter()
            .rev()
            .find_map(|part| part.error_text.as_deref())
    }

    /// Returns the `errorCode`, or else the `code`, of the last part that has either.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.parts
            .iter()
            .rev()
            .find_map(|part| part.error_code.as_deref().or(part.code.as_deref()))
    }
}

impl RawPart {
    fn read(part: &Value) -> Self {
        let body = part.get("body").unwrap_or(&Value::Null);
        let error_text = body.as_str().or_else(|| {
            let candidates = [
                body.get("msg"),
                body.get("title"),
                body.get("details"),
                part.get("message"),
                part.get("error"),
            ];
            candidates.into_iter().flatten().find_map(Value::as_str)
        });
        let error_code = [body.get("errorCode"), part.get("errorCode")];
        Self {
            code: scalar(part.get("code")),
            error_code: error_code.into_iter().find_map(scalar),
            error_text: error_text.map(line),
        }
    }
}

/// Returns a number or a text as text.
fn scalar(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(line(text)),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn line(text: &str) -> String {
    sanitize_line(text, MAX_TEXT_CHARS)
}

#[cfg(test)]
mod tests {
    use crate::http::StatusCode;
    use crate::http::header::HeaderMap;

    use super::*;

    fn read(body: &str) -> RawAnswer {
        let answer = Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: body.to_owned().into(),
        };
        RawAnswer::read("cloud.open", &answer)
    }

    #[test]
    fn the_status_codes_and_texts_of_a_response_are_recorded() {
        let batch = read(
            r#"[{"code":"OK","body":{"msg":"set"},"reqId":"1"},
                {"code":400,"body":{"errorCode":40001,"title":"Missing\nparameter"},"reqId":"2"}]"#,
        );

        assert_eq!(
            (batch.status, batch.form, batch.parts.len()),
            (400, "json", 2)
        );
        assert_eq!(batch.code(), Some("40001"));
        assert_eq!(batch.error_text(), Some("Missing parameter"));
        assert_eq!(batch.parts[0].error_text.as_deref(), Some("set"));
        for (body, form, error_text) in [
            ("", "empty", None),
            ("  <html>", "html", None),
            ("no", "text", None),
            (r#"{"code":"OK","body":"done"}"#, "json", Some("done")),
            ("\u{feff}{\"message\":\"marked\"}", "json", Some("marked")),
            (r#"{"message":"later"}"#, "json", Some("later")),
        ] {
            let answer = read(body);
            assert_eq!(answer.form, form, "{body}");
            assert_eq!(answer.error_text(), error_text, "{body}");
        }
        assert_eq!(
            read(&format!(r#"{{"message":"{}"}}"#, "x".repeat(300)))
                .error_text()
                .unwrap()
                .len(),
            200
        );
    }

    #[tokio::test]
    async fn only_responses_to_an_observed_call_are_recorded() {
        let answer = Answer {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: "{}".into(),
        };
        record("cloud.open", &answer);

        let (outcome, answers) = capture_answers(async {
            record("cloud.close", &answer);
            7
        })
        .await;

        assert_eq!(outcome, 7);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].operation, "cloud.close");
    }
}
