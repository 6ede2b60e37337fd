//! The connections of a listener, limited in number. Silent connections are closed.
//!
//! Further connections wait in the kernel's queue until another one ends. A connection has one
//! request at a time. So the limit on connections also bounds what no other limit covers: heads
//! that arrive slowly, responses that a client does not read, and long polls.
//!
//! The number of connections without a complete head is limited for each address. So clients that
//! never complete a head leave room for others.
//!
//! At a stop, no established connection is refused, since a proxy does not repeat a POST that it
//! has sent. The connections in the kernel's queue are accepted, and then the listener is closed.
//! An accepted connection may still send its request.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, sleep, timeout_at};

use crate::bounds::{Bound, BoundPermit, Holder, LimitReached, Shares};

/// 16,384: 10,000 connections that wait for events, and room for requests.
pub(super) const MAX_CONNECTIONS: usize = 16_384;

/// 3 min: longer than a request may take, and longer than load balancers keep an idle connection.
const SILENCE_LIMIT: Duration = Duration::from_mins(3);

/// 30 s: the time after which a connection is closed if its socket accepts nothing of a response.
const UNREAD_LIMIT: Duration = Duration::from_secs(30);

/// 16 KiB: the limit of unsent bytes in the kernel above which a socket accepts no more. Without a
/// limit the kernel buffers up to 4 MiB for a slow reader, so such a reader could not be
/// distinguished from one that reads nothing.
const MAX_UNSENT_BYTES: u32 = 16 * 1024;

/// 10 s: the minimum time between two log lines about addresses that have too many connections.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// 1 s: the time that a stop waits for the first byte of new connections. A proxy sends it at once.
const FIRST_BYTE_LIMIT: Duration = Duration::from_secs(1);

/// 250 ms: the interval at which a stop checks if a request is still being processed.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// 2 s: the time for which input is still read and dropped after the last response.
const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// The activity on a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The number of requests being processed.
    requests: AtomicUsize,
    /// The number of writes.
    writes: AtomicUsize,
    /// The permit for a connection without a complete head; dropped when the first head is
    /// complete.
    pending: Mutex<Option<BoundPermit>>,
}

/// A request that is being processed.
#[derive(Debug)]
pub(super) struct ActiveRequest(Arc<Traffic>);

/// A listener with bounded connections, until a stop.
pub(super) struct Connections<S> {
    listening: Listening,
    permits: Arc<Semaphore>,
    limits: IdleLimits,
    /// The bound on connections without a complete head, by address.
    pending: Option<Bound>,
    /// The time of the latest log line about refused connections, and the number refused since.
    refused: (Option<Instant>, usize),
    /// The number of connections on which nothing has arrived yet.
    awaiting_first_byte: Arc<watch::Sender<usize>>,
    stop: Pin<Box<S>>,
}

/// The times after which an inactive connection is closed.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleLimits {
    /// The longest time without a byte in either direction.
    pub(super) silence: Duration,
    /// The longest time in which the client reads nothing of a response.
    pub(super) unread: Duration,
}

impl Default for IdleLimits {
    fn default() -> Self {
        Self {
            silence: SILENCE_LIMIT,
            unread: UNREAD_LIMIT,
        }
    }
}

enum Listening {
    Open(TcpListener),
    /// The listener is closed. These connections are still to be served, until this time.
    Closed(VecDeque<(TcpStream, SocketAddr)>, Instant),
}

/// An accepted connection that no thread serves yet.
#[derive(Debug)]
pub(super) struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    limits: IdleLimits,
    pending: Option<BoundPermit>,
    permit: Option<OwnedSemaphorePermit>,
    awaiting_first_byte: AwaitingFirstByte,
}

impl Accepted {
    /// Moves the connection to the runtime of the current thread.
    ///
    /// # Errors
    ///
    /// If the system refuses to register the socket with that runtime.
    pub(super) fn open(self) -> io::Result<Connection<TcpStream>> {
        Ok(Connection {
            stream: TcpStream::from_std(self.stream.into_std()?)?,
            address: self.address,
            limits: self.limits,
            last_activity: Instant::now(),
            silence_timer: Box::pin(sleep(self.limits.silence)),
            write_timer: None,
            traffic: Arc::new(Traffic {
                pending: Mutex::new(self.pending),
                ..Traffic::default()
            }),
            linger_timer: None,
            _permit: self.permit,
            awaiting_first_byte: Some(self.awaiting_first_byte),
        })
    }
}

/// A connection that is served. It fails if no byte goes in either direction for too long, or if
/// the client does not read what it is sent.
#[derive(Debug)]
pub(super) struct Connection<T> {
    stream: T,
    address: SocketAddr,
    limits: IdleLimits,
    /// The time of the latest byte in either direction.
    last_activity: Instant,
    /// A timer that is rarely reset. When it fires, the silence is measured.
    silence_timer: Pin<Box<Sleep>>,
    /// A timer that runs while the socket accepts nothing. It fires if that lasts too long.
    write_timer: Option<Pin<Box<Sleep>>>,
    traffic: Arc<Traffic>,
    /// The end of the time for which input is read and dropped after the last response.
    linger_timer: Option<Pin<Box<Sleep>>>,
    _permit: Option<OwnedSemaphorePermit>,
    /// The count of this connection as one without a first byte; dropped when that byte arrives.
    awaiting_first_byte: Option<AwaitingFirstByte>,
}

/// A connection on which nothing has arrived yet, counted for as long as this value lives.
#[derive(Debug)]
struct AwaitingFirstByte(Arc<watch::Sender<usize>>);

impl AwaitingFirstByte {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for AwaitingFirstByte {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<S: Future<Output = ()>> Connections<S> {
    /// Wraps a listener. Until `stop`, it accepts at most `max_connections` at a time, each with
    /// these time limits.
    pub(super) fn new(
        listener: TcpListener,
        max_connections: usize,
        limits: IdleLimits,
        stop: S,
    ) -> Self {
        Self {
            listening: Listening::Open(listener),
            permits: Arc::new(Semaphore::new(max_connections)),
            limits,
            pending: None,
            refused: (None, 0),
            awaiting_first_byte: Arc::default(),
            stop: Box::pin(stop),
        }
    }

    /// Limits the connections without a complete head for each address; 0 means no limit.
    pub(super) fn with_pending(mut self, per_address: usize) -> Self {
        self.pending = (per_address > 0).then(|| {
            Bound::new(Shares {
                all: usize::MAX,
                channel: per_address,
                user: usize::MAX,
            })
        });
        self
    }

    /// Returns the next connection. After a stop, returns `None` once all established connections
    /// were accepted and have sent their first byte, or the time for that is over. Then idle ones
    /// may be closed.
    pub(super) async fn next(&mut self) -> Option<Accepted> {
        while let Listening::Open(listener) = &mut self.listening {
            let arriving = async {
                let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
                (permit, Listener::accept(listener).await)
            };
            tokio::select! {
                (permit, (stream, address)) = arriving => match self.pending(address.ip()) {
                    Ok(pending) => return Some(self.accepted(permit, stream, address, pending)),
                    Err(_limit) => self.log_refused(),
                },
                () = &mut self.stop => self.close(),
            }
        }
        let Listening::Closed(queue, end) = &mut self.listening else {
            return None;
        };
        if let Some((stream, address)) = queue.pop_front() {
            let permit = Arc::clone(&self.permits).acquire_owned();
            let permit = timeout_at(*end, permit).await.ok()?.ok();
            return Some(self.accepted(permit, stream, address, None));
        }
        let mut waiting = self.awaiting_first_byte.subscribe();
        // Continue either way: all have sent a byte, or the time is over.
        drop(timeout_at(*end, waiting.wait_for(|count| *count == 0)).await);
        None
    }

    /// Acquires a permit for a new connection without a complete head.
    fn pending(&self, address: IpAddr) -> Result<Option<BoundPermit>, LimitReached> {
        let Some(pending) = &self.pending else {
            return Ok(None);
        };
        let holder = Holder {
            channel: &network(address).to_string(),
            user: None,
        };
        pending.acquire(holder, 1).map(Some)
    }

    /// Logs refused connections at intervals.
    fn log_refused(&mut self) {
        let (logged, count) = &mut self.refused;
        *count += 1;
        if logged.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            tracing::warn!(
                count,
                "connections refused: their address has too many connections without a complete request head"
            );
            *logged = Some(Instant::now());
            *count = 0;
        }
    }

    fn accepted(
        &self,
        permit: Option<OwnedSemaphorePermit>,
        stream: TcpStream,
        address: SocketAddr,
        pending: Option<BoundPermit>,
    ) -> Accepted {
        if let Err(error) = stream.set_nodelay(true) {
            // A response is one small write, so holding it back for more data would only delay it.
            tracing::debug!(error = &error as &dyn std::error::Error, "TCP_NODELAY");
        }
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(MAX_UNSENT_BYTES) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "TCP_NOTSENT_LOWAT"
            );
        }
        Accepted {
            stream,
            address,
            limits: self.limits,
            pending,
            permit,
            awaiting_first_byte: AwaitingFirstByte::new(&self.awaiting_first_byte),
        }
    }

    /// Closes the listener after its queue is empty, since closing resets the connections in the
    /// queue.
    fn close(&mut self) {
        let end = Instant::now() + FIRST_BYTE_LIMIT;
        let closed = Listening::Closed(VecDeque::new(), end);
        if let Listening::Open(listener) = std::mem::replace(&mut self.listening, closed) {
            self.listening = Listening::Closed(drain_queue(listener), end);
        }
    }
}

/// Accepts the connections in a listener's queue, and closes the listener.
fn drain_queue(listener: TcpListener) -> VecDeque<(TcpStream, SocketAddr)> {
    let mut queue = VecDeque::new();
    // The kernel is asked directly, since the runtime learns of new connections a little later.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, address)) = listener.accept() {
            let stream = stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream));
            queue.extend(stream.ok().map(|stream| (stream, address)));
        }
    }
    queue
}

impl Traffic {
    /// Counts a request until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> ActiveRequest {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        drop(pending.take());
        drop(pending);
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Waits for `minimum`, and then until no request is being processed.
    pub(super) async fn wait_until_idle(&self, minimum: Duration) {
        sleep(minimum).await;
        while self.requests.load(Ordering::Relaxed) > 0 {
            sleep(IDLE_CHECK_INTERVAL).await;
        }
    }

    /// Waits until no request was processed and nothing was written for `period`.
    pub(super) async fn wait_until_stalled(&self, period: Duration) {
        loop {
            let before = self.writes.load(Ordering::Relaxed);
            sleep(period).await;
            let is_idle = self.requests.load(Ordering::Relaxed) == 0;
            if is_idle && self.writes.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        // From now on its response is being written.
        self.0.writes.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the unit that counts as one address: an IPv4 address, or the /64 network of an IPv6
/// address, since a machine can have any number of addresses in it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl<T> Connection<T> {
    /// Returns the client's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the activity on the connection.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Completes when the connection was silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.silence_timer.as_mut().poll(context));
            let end = self.last_activity + self.limits.silence;
            if end <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.silence_timer.as_mut().reset(end);
        }
    }

    /// Passes on the result of a write; an error if the client has read nothing for too long.
    fn watch_write(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.traffic.writes.fetch_add(1, Ordering::Relaxed);
            self.write_timer = None;
            return self.watch(context, result);
        }
        let unread = self.limits.unread;
        let timer = self
            .write_timer
            .get_or_insert_with(|| Box::pin(sleep(unread)));
        if timer.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.watch(context, result)
    }

    /// Passes on the result of a read or write; an error if the connection was silent for too long.
    fn watch<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.last_activity = Instant::now();
            return result;
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
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if result.is_ready() {
            self.awaiting_first_byte = None;
        }
        self.watch(context, result)
    }
}

impl<T: AsyncRead + Unpin> Connection<T> {
    /// Completes when the client has closed its side too, or the time is over.
    ///
    /// If the kernel holds input that the service does not read, it closes the connection by a
    /// reset. A reset also discards responses that the client has not read yet. So a client whose
    /// body is too long would not see the error.
    fn poll_client_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let linger_timer = self
            .linger_timer
            .get_or_insert_with(|| Box::pin(sleep(LINGER_LIMIT)));
        loop {
            if linger_timer.as_mut().poll(context).is_ready() {
                return Poll::Ready(());
            }
            let mut dropped = [MaybeUninit::uninit(); 4096];
            let mut dropped = ReadBuf::uninit(&mut dropped);
            let read = Pin::new(&mut self.stream).poll_read(context, &mut dropped);
            if ready!(read).is_err() || dropped.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch_write(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger_timer.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        self.poll_client_close(context).map(Ok)
    }
}

#[cfg(test)]
mod tests;
