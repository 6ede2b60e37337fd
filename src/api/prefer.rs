//! The time that a channel is willing to wait for the Cloud (`Prefer`, RFC 7240).

use std::ops::RangeInclusive;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use utoipa::IntoParams;

use super::problem::Problem;
use crate::outbox::WaitPreference;

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// 1 to 30 s: the range of the wait. A longer wait would hold a permit that others need.
const WAIT_RANGE: RangeInclusive<u64> = 1..=30;

/// The preferences of a request. Unknown and malformed ones are ignored, as the RFC demands. A wait
/// out of range becomes the nearest one in range, which `Preference-Applied` names.
#[derive(Debug, Default, IntoParams)]
#[into_params(names("Prefer"), parameter_in = Header)]
pub(super) struct Prefer(
    /// `wait=N`: the number of seconds to wait for the Cloud before the request is queued and
    /// answered with 202. The default is 5; less than 1 counts as 1, more than 30 as 30.
    /// `respond-async`: the request is queued at once. Other preferences are ignored (RFC 7240).
    /// `Preference-Applied` names the preference that was followed.
    #[param(value_type = String, required = false)]
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
            // Parameters of a preference come after a semicolon; neither of the two known ones has
            // any.
            let preference = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let (name, value) = (name.trim(), value.trim().trim_matches('"'));
            if name.eq_ignore_ascii_case("respond-async") {
                return Self(Some(Preference::RespondAsync));
            }
            if name.eq_ignore_ascii_case("wait") && preferred.is_none() {
                preferred = wait(value).map(Preference::Wait);
            }
        }
        Self(preferred)
    }

    /// Returns the time to wait for the Cloud.
    pub(super) fn wait_preference(&self) -> WaitPreference {
        match self.0 {
            None => WaitPreference::default(),
            Some(Preference::Wait(seconds)) => WaitPreference {
                wait: Duration::from_secs(seconds),
                at_once: false,
            },
            Some(Preference::RespondAsync) => WaitPreference {
                at_once: true,
                ..WaitPreference::default()
            },
        }
    }

    /// Returns the preference that was followed, for `Preference-Applied`.
    pub(super) fn applied(&self) -> Option<HeaderValue> {
        match self.0? {
            Preference::Wait(seconds) => HeaderValue::try_from(format!("wait={seconds}")).ok(),
            Preference::RespondAsync => Some(HeaderValue::from_static("respond-async")),
        }
    }
}

/// Parses a number of seconds, and clamps it to the range.
fn wait(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // A number that does not parse here has too many digits.
    let seconds = text.parse().unwrap_or(u64::MAX);
    Some(seconds.clamp(*WAIT_RANGE.start(), *WAIT_RANGE.end()))
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
            ("wait=0", Some(Preference::Wait(1))),
            ("wait=31", Some(Preference::Wait(30))),
            ("wait=99999999999999999999999", Some(Preference::Wait(30))),
            ("wait=soon", None),
            ("wait=-1", None),
            ("wait=+1", None),
            ("wait=1.5", None),
            ("wait=", None),
            ("wait", None),
            ("return=minimal", None),
            ("", None),
        ] {
            let headers = [(PREFER, HeaderValue::from_static(text))];

            let prefer = Prefer::read(&headers.into_iter().collect());

            assert_eq!(prefer.0, preferred, "{text}");
        }
    }
}
