//! Samples of the bodies on the wire: their beginnings, stored as they pass and shown as text if
//! they are text.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body::{Frame, SizeHint};

use super::masking;

/// The highest number of bytes in a sample: 16 KiB, longer than the usual bodies, and short enough
/// for a thousand of them.
const LIMIT: usize = 16 * 1024;

/// The beginning of a body, and its length.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sample {
    beginning: Vec<u8>,
    size: usize,
}

/// A sample that grows while another task reads the body.
pub(crate) type SharedSample = Arc<Mutex<Sample>>;

impl Sample {
    pub(crate) fn of(body: &[u8]) -> Self {
        let mut sample = Self::default();
        sample.add(body);
        sample
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        let room = LIMIT - self.beginning.len();
        let stored = bytes.get(..room).unwrap_or(bytes);
        self.beginning.extend_from_slice(stored);
    }

    /// True if it holds the whole body so far.
    pub(crate) fn is_complete(&self) -> bool {
        self.size == self.beginning.len()
    }

    /// Returns the body for a person to read: text without secrets, or the type and size of other
    /// content.
    pub(super) fn show(&self, headers: &HeaderMap) -> String {
        if self.size == 0 {
            return String::new();
        }
        let media_type = headers.get(CONTENT_TYPE);
        let media_type = media_type.and_then(|media_type| media_type.to_str().ok());
        match self.text().filter(|_| is_text(media_type)) {
            Some(text) if self.is_complete() => masking::text(text),
            Some(text) => {
                let (shown, size) = (text.len(), self.size);
                format!("{}\n… (cut: {shown} of {size} bytes)", masking::text(text))
            }
            None => format!("({}, {} bytes)", media_type.unwrap_or("no text"), self.size),
        }
    }

    /// Returns the beginning up to its last complete character; `None` if it is not text.
    fn text(&self) -> Option<&str> {
        match std::str::from_utf8(&self.beginning) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() && !self.is_complete() => {
                let complete = self.beginning.get(..error.valid_up_to())?;
                std::str::from_utf8(complete).ok()
            }
            Err(_) => None,
        }
    }
}

/// True if a body of this type can be text. A form with files is not, even if a file in it is text.
fn is_text(media_type: Option<&str>) -> bool {
    let Some(media_type) = media_type else {
        return true;
    };
    let media_type = media_type.to_ascii_lowercase();
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    [
        "text/",
        "application/json",
        "application/x-www-form-urlencoded",
    ]
    .iter()
    .any(|text| essence.starts_with(text))
        || ["+json", "/xml", "+xml", "/yaml"]
            .iter()
            .any(|text| essence.ends_with(text))
}

/// A body that is sampled as it passes.
pub(crate) struct SampledBody<End: FnOnce(Sample)> {
    body: Body,
    sample: SharedSample,
    /// The function to call once the body has ended or is dropped.
    end: Option<End>,
}

impl<End: FnOnce(Sample)> SampledBody<End> {
    pub(super) fn new(body: Body, end: End) -> Self {
        Self {
            body,
            sample: SharedSample::default(),
            end: Some(end),
        }
    }

    fn finish(&mut self) {
        if let Some(end) = self.end.take() {
            end(std::mem::take(&mut *lock(&self.sample)));
        }
    }
}

/// Wraps a body so that its sample can be read before the body ends.
pub(crate) fn sampled(body: Body) -> (Body, SharedSample) {
    let sample = SharedSample::default();
    let tapped = SampledBody::<fn(Sample)> {
        body,
        sample: Arc::clone(&sample),
        end: None,
    };
    (Body::new(tapped), sample)
}

impl<End: FnOnce(Sample) + Unpin> HttpBody for SampledBody<End> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            lock(&self.sample).add(data);
        }
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<End: FnOnce(Sample)> Drop for SampledBody<End> {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Locks a sample, which is sound even if a holder panicked.
pub(super) fn lock(sample: &SharedSample) -> MutexGuard<'_, Sample> {
    sample.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(media_type: &str, body: &[u8]) -> String {
        let mut headers = HeaderMap::new();
        if !media_type.is_empty() {
            headers.insert(CONTENT_TYPE, media_type.parse().unwrap());
        }
        Sample::of(body).show(&headers)
    }

    #[test]
    fn text_is_shown_unchanged_and_other_content_by_type_and_size() {
        assert_eq!(shown("application/json; charset=utf-8", b"{}"), "{}");
        assert_eq!(shown("application/problem+json", b"{}"), "{}");
        assert_eq!(shown("", "Zoë".as_bytes()), "Zoë");
        assert_eq!(shown("image/png", b"text"), "(image/png, 4 bytes)");
        assert_eq!(
            shown("multipart/form-data; boundary=x", b"--x"),
            "(multipart/form-data; boundary=x, 3 bytes)"
        );
        assert_eq!(shown("text/plain", b"\xff\xfe"), "(text/plain, 2 bytes)");
        assert_eq!(shown("", b"\xff"), "(no text, 1 bytes)");
        assert_eq!(shown("image/png", b""), "");
    }

    #[test]
    fn a_long_body_is_cut_between_characters_with_a_note() {
        let mut long = "x".repeat(LIMIT - 1);
        long.push_str("ëëë");

        let shown = shown("text/plain", long.as_bytes());

        let (beginning, note) = shown.split_at(LIMIT - 1);
        assert_eq!(beginning, "x".repeat(LIMIT - 1));
        assert_eq!(
            note,
            format!("\n… (cut: {} of {} bytes)", LIMIT - 1, LIMIT + 5)
        );
    }

    #[test]
    fn a_secret_in_a_cut_body_is_masked() {
        let long = format!(r#"{{"token": "{}"}}"#, "s3cret".repeat(LIMIT));

        let shown = shown("application/json", long.as_bytes());

        assert!(!shown.contains("s3cret"), "{}", &shown[..40]);
    }
}
