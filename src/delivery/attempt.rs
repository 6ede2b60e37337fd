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

/// 10 s: the time that a channel has to answer.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// The error after that time.
pub(super) const NO_ANSWER: &str = "no answer within 10 s";

/// 4 KiB: the limit of a response body that is read, so that its connection can be reused. A longer
/// one is cut off.
const MAX_ANSWER_BYTES: usize = 4096;

/// 1 s: the time limit for a body after its status has arrived.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

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
    pub(super) const fn word(self) -> &'static str {
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
        let (tried, outcome) = self.try_once(event, &trace).instrument(span.clone()).await;
        span.record("status", tried.status);
        (tried, outcome)
    }

    async fn try_once(&self, event: &DueEvent, trace: &Trace) -> (DeliveryAttempt, Outcome) {
        let at = self.clock.now();
        let begun = Instant::now();
        let answer = timeout(LIMIT, self.send(event, at, trace)).await;
        let took = begun.elapsed();
        let (status, error, outcome) = match answer {
            Ok(Ok(answer)) => {
                let status = answer.status.as_u16();
                let wish = http::retry_after(&answer.headers, self.clock.now());
                let left = LIMIT.saturating_sub(took).min(ANSWER_LIMIT);
                answer.discard(MAX_ANSWER_BYTES, left).await;
                (Some(status), None, judge(status, wish))
            }
            Ok(Err(error)) => (None, Some(error), Outcome::Failed(None)),
            Err(_) => {
                let error = NO_ANSWER.to_owned();
                (None, Some(error), Outcome::Failed(None))
            }
        };
        let tried = DeliveryAttempt {
            at,
            duration_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            status,
            error,
        };
        (tried, outcome)
    }

    /// Sends an event. Returns the response while its body still arrives, or the reason why there
    /// is none.
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
        let answer = self.http.stream("delivery.post", trace, request).await;
        answer.map_err(|error| cause(&error))
    }
}

/// Maps a status to an outcome. Redirects are not followed.
fn judge(status: u16, wish: Option<Duration>) -> Outcome {
    match status {
        200..300 => Outcome::Delivered,
        410 => Outcome::Gone,
        422 => Outcome::Refused,
        _ => Outcome::Failed(wish),
    }
}

/// Describes briefly why there is no response: the step that failed, and its root cause.
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
        let wish = Some(Duration::from_secs(7));

        for status in [200, 201, 202, 204, 299] {
            assert_eq!(judge(status, None), Outcome::Delivered, "{status}");
        }
        assert_eq!(judge(410, wish), Outcome::Gone);
        assert_eq!(judge(422, wish), Outcome::Refused);
        for status in [
            199, 300, 302, 307, 308, 400, 401, 404, 408, 409, 429, 500, 503,
        ] {
            assert_eq!(judge(status, wish), Outcome::Failed(wish), "{status}");
        }
    }
}
