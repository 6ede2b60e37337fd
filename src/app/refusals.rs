//! Problems for requests whose heads hyper cannot read.
//!
//! Hyper answers such a request by itself with a bare status and then closes the connection. It has
//! no hook for that response, so the response is replaced on its way to the socket. Bytes belong
//! to such a response if hyper writes them while no response of the service is left to be written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body;
use axum::http::{StatusCode, header};
use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::responses::ResponseTracker;
use crate::api::ProtocolErrors;

/// A connection that replaces hyper's own responses by problems.
#[derive(Debug)]
pub(super) struct ProblemWriter<T> {
    stream: T,
    responses: ResponseTracker,
    /// The source of the problems; `None` leaves hyper's responses as they are.
    errors: Option<ProtocolErrors>,
    /// The response that is being written in place of hyper's, and the number of bytes already
    /// written.
    answer: Option<(Vec<u8>, usize)>,
}

impl<T> ProblemWriter<T> {
    /// Wraps a connection on which the service sends these responses.
    pub(super) fn new(
        stream: T,
        responses: ResponseTracker,
        errors: Option<ProtocolErrors>,
    ) -> Self {
        Self {
            stream,
            responses,
            errors,
            answer: None,
        }
    }
}

/// Returns the response in place of one that hyper wrote; `None` if the bytes are not a refusal.
fn completed(errors: &ProtocolErrors, bytes: &[u8]) -> Option<Vec<u8>> {
    let head = str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?;
    let status = StatusCode::from_bytes(status.as_bytes()).ok()?;
    if !status.is_client_error() {
        return None;
    }
    let (parts, body) = errors.answer_unread(status).into_parts();
    // The body of a problem is in memory, so this never waits.
    let body = body::to_bytes(body, usize::MAX).now_or_never()?.ok()?;
    let mut answer = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    // The remaining lines are the date and `connection: close`.
    let is_length = |line: &str| {
        let name = line.split(':').next().unwrap_or_default();
        name.eq_ignore_ascii_case(header::CONTENT_LENGTH.as_str())
    };
    for line in lines.filter(|line| !is_length(line)) {
        answer.extend_from_slice(line.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    for (name, value) in &parts.headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    let length = format!("{}: {}\r\n\r\n", header::CONTENT_LENGTH, body.len());
    answer.extend_from_slice(length.as_bytes());
    answer.extend_from_slice(&body);
    Some(answer)
}

impl<T: AsyncRead + Unpin> AsyncRead for ProblemWriter<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for ProblemWriter<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.answer.is_none() && !this.responses.has_unwritten() {
            let errors = this.errors.as_ref();
            let answer = errors.and_then(|errors| completed(errors, bytes));
            this.answer = answer.map(|answer| (answer, 0));
        }
        let stream = &mut this.stream;
        let Some((answer, written)) = &mut this.answer else {
            return Pin::new(stream).poll_write(context, bytes);
        };
        while let Some(remaining) = answer.get(*written..).filter(|it| !it.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(context, remaining))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                more => *written += more,
            }
        }
        this.answer = None;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        // Hyper flushes once its own buffer is empty.
        self.responses.record_flush();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
