//! The connections of a listener: no more than a number of them at once, and none that is silent for long.
//!
//! One more waits in the system's own queue until another ends. A connection bears one request at a time, so this also
//! bounds what no other limit does: heads that arrive slowly, answers that nobody reads, readers who wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// 16,384: those who wait for events, 10,000, and room for requests.
pub(super) const AT_ONCE: usize = 16_384;

/// 3 min: longer than a request may take, and than load balancers keep an idle connection.
pub(super) const SILENCE: Duration = Duration::from_mins(3);

/// A listener whose connections are bounded.
#[derive(Debug)]
pub(super) struct Connections<L> {
    listener: L,
    places: Arc<Semaphore>,
    silence: Duration,
}

/// A connection in its place; it breaks when no byte goes either way for too long.
#[derive(Debug)]
pub(super) struct Connection<T> {
    stream: T,
    silence: Duration,
    /// When a byte last went either way.
    heard: Instant,
    /// Set seldom: when it rings, it is seen whether the connection was silent.
    alarm: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<L> Connections<L> {
    /// The connections of a listener, so many at once, none silent for so long.
    pub(super) fn new(listener: L, at_once: usize, silence: Duration) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(at_once)),
            silence,
        }
    }
}

impl<L: Listener> Listener for Connections<L> {
    type Io = Connection<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // It is never closed.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = self.listener.accept().await;
        let connection = Connection {
            stream,
            silence: self.silence,
            heard: Instant::now(),
            alarm: Box::pin(sleep(self.silence)),
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<T> Connection<T> {
    /// Pending, until the connection was silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let end = self.heard + self.silence;
            if end <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(end);
        }
    }

    /// What became of reading or writing; an error where it has waited for too long.
    fn watch<R>(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if done.is_ready() {
            self.heard = Instant::now();
            return done;
        }
        self.poll_silence(context).map(Err)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Connection<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, done)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
