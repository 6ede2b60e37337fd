//! How long a channel waits for the Cloud (RFC 7240, `Prefer`), and the answer to what is queued instead.

use std::time::Duration;

use axum::Json as Body;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa::IntoParams;

use super::problem::Problem;
use super::v1::messages::Message;
use crate::bridge::{Outcome, Patience};
use crate::types::links;

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// 30 s: the longest that a channel may have the bridge wait.
const LONGEST_WAIT: u64 = 30;

/// What the request prefers. What cannot be read or granted is as if it was not there, as the RFC has it.
#[derive(Debug, Default, IntoParams)]
#[into_params(names("Prefer"), parameter_in = Header)]
pub(super) struct Prefer(
    /// `wait=N`: how many seconds, 1 to 30, to wait for the Cloud before the request is queued and answered 202; 5 unless
    /// said otherwise. `respond-async`: it is queued at once.
    #[param(value_type = Option<String>, example = "wait=2")]
    Option<Preference>,
);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preference {
    Wait(u64),
    RespondAsync,
}

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self::read(&parts.headers))
    }
}

impl Prefer {
    fn read(headers: &HeaderMap) -> Self {
        let values = headers.get_all(PREFER).into_iter();
        let texts = values.filter_map(|value| value.to_str().ok());
        let mut preferred = None;
        for preference in texts.flat_map(|text| text.split(',')) {
            // Parameters of a preference come after a semicolon; neither of ours has any.
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("respond-async") {
                return Self(Some(Preference::RespondAsync));
            }
            let wait = value
                .parse()
                .ok()
                .filter(|wait| (1..=LONGEST_WAIT).contains(wait));
            if name.eq_ignore_ascii_case("wait") && preferred.is_none() {
                preferred = wait.map(Preference::Wait);
            }
        }
        Self(preferred)
    }

    /// How long to wait for the Cloud.
    pub(super) fn patience(&self) -> Patience {
        match self.0 {
            None => Patience::default(),
            Some(Preference::Wait(seconds)) => Patience {
                wait: Duration::from_secs(seconds),
                at_once: false,
            },
            Some(Preference::RespondAsync) => Patience {
                at_once: true,
                ..Patience::default()
            },
        }
    }

    /// The answer to what was done, or to what is queued: 202, the message, and where to ask for it.
    pub(super) fn answer<T: IntoResponse>(&self, outcome: Outcome<T>) -> Response {
        let mut response = match outcome {
            Outcome::Done(done) => done.into_response(),
            Outcome::Queued(queued) => {
                let headers = [(header::LOCATION, links::message(queued.id))];
                (StatusCode::ACCEPTED, headers, Body(Message::from(queued))).into_response()
            }
        };
        let applied = match self.0 {
            None => return response,
            Some(Preference::Wait(seconds)) => HeaderValue::try_from(format!("wait={seconds}")),
            Some(Preference::RespondAsync) => Ok(HeaderValue::from_static("respond-async")),
        };
        if let Ok(applied) = applied {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_the_rfc_writes_them() {
        for (text, preferred) in [
            ("wait=2", Some(Preference::Wait(2))),
            ("Wait = \"30\"", Some(Preference::Wait(30))),
            (
                "handling=lenient, wait=7; foo=bar",
                Some(Preference::Wait(7)),
            ),
            ("respond-async", Some(Preference::RespondAsync)),
            ("wait=10, Respond-Async", Some(Preference::RespondAsync)),
            ("wait=0", None),
            ("wait=31", None),
            ("wait=soon", None),
            ("return=minimal", None),
            ("", None),
        ] {
            let headers = [(PREFER, HeaderValue::from_static(text))];

            let prefer = Prefer::read(&headers.into_iter().collect());

            assert_eq!(prefer.0, preferred, "{text}");
        }
    }
}
