//! The connections of a listener: no more than a number of them at once, and none that is silent for long.
//!
//! One more waits in the system's own queue until another ends. A connection bears one request at a time, so this also
//! bounds what no other limit does: heads that arrive slowly, answers that nobody reads, readers who wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What goes on on a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// How many requests are being worked on.
    requests: AtomicUsize,
    /// How often something was written.
    writes: AtomicUsize,
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Busy(Arc<Traffic>);

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
    traffic: Arc<Traffic>,
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
            traffic: Arc::default(),
            _place: place,
        };
        (connection, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl Traffic {
    /// Counts a request until what it gives is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Waits until nothing was worked on and nothing written for so long.
    pub(super) async fn stands_still(&self, long: Duration) {
        loop {
            let before = self.writes.load(Ordering::Relaxed);
            sleep(long).await;
            let is_idle = self.requests.load(Ordering::Relaxed) == 0;
            if is_idle && self.writes.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        // From now on its answer is written.
        self.0.writes.fetch_add(1, Ordering::Relaxed);
    }
}

impl<T> Connection<T> {
    /// What goes on on it.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    fn note_write(&self, done: &Poll<io::Result<usize>>) {
        if done.is_ready() {
            self.traffic.writes.fetch_add(1, Ordering::Relaxed);
        }
    }

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
        self.note_write(&done);
        self.watch(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.note_write(&done);
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
