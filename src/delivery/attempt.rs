//! One attempt to deliver an event, and the meaning of its response.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretSlice;
use tokio::time::{Instant, timeout};
use tokio_util::bytes::Bytes;
use tracing::Instrument as _;
use tracing::field::Empty;
use url::Url;

use super::target::{Refused, Rules};
use super::{Channel, sign};
use crate::clock::SharedClock;
use crate::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use crate::http::{self, Method};
use crate::store::{DeliveryAttempt, DueEvent};
use crate::types::ids::ChannelId;
use crate::types::trace::{Trace, step};

/// 10 s: the time limit for the response of a channel.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The error if no response arrives in that time.
pub(super) const TIMED_OUT: &str = "no answer within 10 s";

/// 4 KiB: the limit of a response body that is read, so that its connection can be reused. A longer
/// one is cut off.
const MAX_RESPONSE_BYTES: usize = 4096;

/// 1 s: the time limit for a body after its status has arrived.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const WEBHOOK_ATTEMPT: HeaderName = HeaderName::from_static("webhook-attempt");

/// 200 characters: the limit of an error that operators see.
const MAX_ERROR_CHARS: usize = 200;

/// A channel's callback.
pub(super) struct Callback {
    http: http::Client,
    rules: Rules,
    url: Url,
    secrets: Vec<SecretSlice<u8>>,
    clock: SharedClock,
}

impl fmt::Debug for Callback {
    /// Shows only the host, since the rest of a URL may hold a password or a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback")
            .field("host", &self.url.host_str())
            .finish_non_exhaustive()
    }
}

/// The meaning of the channel's response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The channel has received the event.
    Delivered,
    /// The channel does not want this event, now or later.
    Refused,
    /// The channel does not want events any more.
    Gone,
    /// Another attempt may succeed, after at least this time.
    Failed(Option<Duration>),
}

impl Outcome {
    /// Returns the outcome as one word, for a metric's label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Gone => "gone",
            Self::Failed(_) => "failed",
        }
    }
}

impl Callback {
    pub(super) fn new(
        http: http::Client,
        rules: Rules,
        channel: &Channel,
        clock: SharedClock,
    ) -> Self {
        Self {
            http,
            rules,
            url: channel.url.clone(),
            secrets: channel.secrets.clone(),
            clock,
        }
    }

    /// Sends an event, and returns the record of the attempt with its outcome.
    pub(super) async fn attempt(
        &self,
        channel_id: &ChannelId,
        event: &DueEvent,
    ) -> (DeliveryAttempt, Outcome) {
        let trace = Trace::continue_stored(event.parent.as_ref(), self.clock.uuid());
        let span = step!(
            trace,
            "delivery.attempt",
            channel.id = %channel_id,
            event.id = event.id,
            status = Empty,
        );
        let attempt = self.attempt_once(event, &trace);
        let (attempt, outcome) = attempt.instrument(span.clone()).await;
        span.record("status", attempt.status);
        (attempt, outcome)
    }

    async fn attempt_once(&self, event: &DueEvent, trace: &Trace) -> (DeliveryAttempt, Outcome) {
        let at = self.clock.now();
        let begun = Instant::now();
        let response = timeout(ATTEMPT_TIMEOUT, self.send(event, at, trace)).await;
        let elapsed = begun.elapsed();
        let (status, error, outcome) = match response {
            Ok(Ok(response)) => {
                let status = response.status.as_u16();
                let retry_after = http::retry_after(&response.headers, self.clock.now());
                let remaining = ATTEMPT_TIMEOUT.saturating_sub(elapsed).min(BODY_TIMEOUT);
                response.discard(MAX_RESPONSE_BYTES, remaining).await;
                (Some(status), None, classify(status, retry_after))
            }
            Ok(Err(error)) => (None, Some(error), Outcome::Failed(None)),
            Err(_) => {
                let error = TIMED_OUT.to_owned();
                (None, Some(error), Outcome::Failed(None))
            }
        };
        let attempt = DeliveryAttempt {
            at,
            duration_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            status,
            error,
        };
        (attempt, outcome)
    }

    /// Sends an event. Returns the response before its body has arrived, or the reason why there is
    /// none.
    async fn send(
        &self,
        event: &DueEvent,
        at: DateTime<Utc>,
        trace: &Trace,
    ) -> Result<http::Streamed, String> {
        self.rules
            .check(&self.url)
            .map_err(|refused| refused.to_string())?;
        let timestamp = at.timestamp();
        let signatures = sign::signatures(&self.secrets, &event.id, timestamp, &event.body);
        let body = Bytes::from(event.body.clone());
        let mut request =
            http::request_to(Method::POST, &self.url, body).map_err(|error| cause(&error))?;
        let headers = request.headers_mut();
        let text = |text: &str| HeaderValue::from_str(text).map_err(|error| cause(&error));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(WEBHOOK_ID, text(&event.id)?);
        headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
        headers.insert(WEBHOOK_SIGNATURE, text(&signatures)?);
        headers.insert(WEBHOOK_ATTEMPT, event.attempts.saturating_add(1).into());
        let response = self.http.stream("delivery.post", trace, request).await;
        response.map_err(|error| cause(&error))
    }
}

/// Maps a status to an outcome. Redirects are not followed.
fn classify(status: u16, retry_after: Option<Duration>) -> Outcome {
    match status {
        200..300 => Outcome::Delivered,
        410 => Outcome::Gone,
        422 => Outcome::Refused,
        _ => Outcome::Failed(retry_after),
    }
}

/// Describes the reason for a missing response: the step that failed, and its root cause.
pub(super) fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text = if last.is::<Refused>() || std::ptr::eq(last, error) {
        last.to_string()
    } else {
        format!("{error}: {last}")
    };
    text.chars().take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_callback_response_decides_the_outcome() {
        let retry_after = Some(Duration::from_secs(7));

        for status in [200, 201, 202, 204, 299] {
            assert_eq!(classify(status, None), Outcome::Delivered, "{status}");
        }
        assert_eq!(classify(410, retry_after), Outcome::Gone);
        assert_eq!(classify(422, retry_after), Outcome::Refused);
        for status in [
            199, 300, 302, 307, 308, 400, 401, 404, 408, 409, 429, 500, 503,
        ] {
            assert_eq!(
                classify(status, retry_after),
                Outcome::Failed(retry_after),
                "{status}"
            );
        }
    }
}
