//! The connections of a listener: no more than a number of them at once, and none that is silent for long.
//!
//! One more waits in the system's own queue until another ends. A connection bears one request at a time, so this also
//! bounds what no other limit does: heads that arrive slowly, answers that nobody reads, readers who wait.
//!
//! One address has only so many connections on which no whole head has arrived yet: those who send no more than half a head
//! leave room for the others.
//!
//! On a stop nobody is turned away who has got a connection, since a proxy repeats no POST that it has sent: those in the
//! system's queue are taken out of it, the listener is closed, and who has connected may still say what he wants.

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

use crate::bounds::{Bound, Exhausted, Hold, Holder, Shares};

/// 16,384: those who wait for events, 10,000, and room for requests.
pub(super) const AT_ONCE: usize = 16_384;

/// 3 min: longer than a request may take, and than load balancers keep an idle connection.
const SILENCE: Duration = Duration::from_mins(3);

/// 30 s: how long the socket may take nothing of an answer before the connection is closed.
const UNREAD: Duration = Duration::from_secs(30);

/// 16 KiB: the bytes that the system has not sent yet above which a socket takes no more. Without a
/// limit it keeps up to 4 MiB for a slow reader, and would not tell such a reader from one that reads
/// nothing.
const UNSENT: u32 = 16 * 1024;

/// 10 s: the pause between two lines of the log about addresses that have too many connections.
const LOGGED: Duration = Duration::from_secs(10);

/// 1 s: how long a stop waits for the first byte of those who have connected; a proxy sends it at once.
const FIRST_BYTE: Duration = Duration::from_secs(1);

/// 250 ms: how often it is seen at a stop whether a request is still worked on.
const LOOK: Duration = Duration::from_millis(250);

/// 2 s: how long a connection on which all is said is still read, for nobody.
const LINGERING: Duration = Duration::from_secs(2);

/// What goes on on a connection.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// How many requests are being worked on.
    requests: AtomicUsize,
    /// How often something was written.
    writes: AtomicUsize,
    /// Its part of what its address may have; gone with the first whole head.
    pending: Mutex<Option<Hold>>,
}

/// A request that is being worked on.
#[derive(Debug)]
pub(super) struct Busy(Arc<Traffic>);

/// A listener whose connections are bounded, until a stop.
pub(super) struct Connections<S> {
    listening: Listening,
    places: Arc<Semaphore>,
    patience: Patience,
    /// Those on which no whole head has arrived yet, by their address.
    pending: Option<Bound>,
    /// When the log was last told of an address that had too many, and how many were refused since.
    refused: (Option<Instant>, usize),
    /// How many connections have not been heard yet.
    unheard: Arc<watch::Sender<usize>>,
    stop: Pin<Box<S>>,
}

/// How long a connection is kept on which nothing goes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long no byte may go either way.
    pub(super) silence: Duration,
    /// How long the other side may read nothing of an answer.
    pub(super) unread: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            silence: SILENCE,
            unread: UNREAD,
        }
    }
}

enum Listening {
    Open(TcpListener),
    /// Nobody comes any more; these are still to be let in, until then.
    Closed(VecDeque<(TcpStream, SocketAddr)>, Instant),
}

/// A connection in its place; it breaks when no byte goes either way for too long, or when the other
/// side reads nothing of what it is sent.
#[derive(Debug)]
pub(super) struct Connection<T> {
    stream: T,
    address: SocketAddr,
    patience: Patience,
    /// When a byte last went either way.
    heard: Instant,
    /// Set seldom: when it rings, it is seen whether the connection was silent.
    alarm: Pin<Box<Sleep>>,
    /// While the socket takes nothing: rings when that was too long.
    unread: Option<Pin<Box<Sleep>>>,
    traffic: Arc<Traffic>,
    /// Until when it is read after its end.
    lingering: Option<Pin<Box<Sleep>>>,
    _place: Option<OwnedSemaphorePermit>,
    /// Gone with the first byte.
    unheard: Option<Unheard>,
}

/// Counts a connection among the unheard ones for as long as it lives.
#[derive(Debug)]
struct Unheard(Arc<watch::Sender<usize>>);

impl Unheard {
    fn new(count: &Arc<watch::Sender<usize>>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(Arc::clone(count))
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl<S: Future<Output = ()>> Connections<S> {
    /// The connections of a listener, so many at once, each kept with this patience, until `stop`.
    pub(super) fn new(listener: TcpListener, at_once: usize, patience: Patience, stop: S) -> Self {
        Self {
            listening: Listening::Open(listener),
            places: Arc::new(Semaphore::new(at_once)),
            patience,
            pending: None,
            refused: (None, 0),
            unheard: Arc::default(),
            stop: Box::pin(stop),
        }
    }

    /// Lets each address have so many connections on which no whole head has arrived yet; with 0 any number.
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

    /// The next one; none after a stop, when all who had connected have been let in and heard: idle ones may be closed then.
    pub(super) async fn next(&mut self) -> Option<Connection<TcpStream>> {
        while let Listening::Open(listener) = &mut self.listening {
            let arriving = async {
                let place = Arc::clone(&self.places).acquire_owned().await.ok();
                (place, Listener::accept(listener).await)
            };
            tokio::select! {
                (place, (stream, address)) = arriving => match self.pending(address.ip()) {
                    Ok(pending) => return Some(self.connection(place, stream, address, pending)),
                    Err(_exhausted) => self.note_refused(),
                },
                () = &mut self.stop => self.close(),
            }
        }
        let Listening::Closed(queue, end) = &mut self.listening else {
            return None;
        };
        if let Some((stream, address)) = queue.pop_front() {
            let place = Arc::clone(&self.places).acquire_owned();
            let place = timeout_at(*end, place).await.ok()?.ok();
            return Some(self.connection(place, stream, address, None));
        }
        let mut unheard = self.unheard.subscribe();
        // Whether all were heard or the time is over, it goes on.
        drop(timeout_at(*end, unheard.wait_for(|count| *count == 0)).await);
        None
    }

    /// The part of a new connection of what its address may have.
    fn pending(&self, address: IpAddr) -> Result<Option<Hold>, Exhausted> {
        let Some(pending) = &self.pending else {
            return Ok(None);
        };
        let holder = Holder {
            channel: &network(address).to_string(),
            user: None,
        };
        pending.take(holder, 1).map(Some)
    }

    /// Tells the log, now and then, that connections were refused.
    fn note_refused(&mut self) {
        let (logged, count) = &mut self.refused;
        *count += 1;
        if logged.is_none_or(|at| at.elapsed() >= LOGGED) {
            tracing::warn!(
                count,
                "connections refused: no whole head has arrived on many others of their address"
            );
            *logged = Some(Instant::now());
            *count = 0;
        }
    }

    fn connection(
        &self,
        place: Option<OwnedSemaphorePermit>,
        stream: TcpStream,
        address: SocketAddr,
        pending: Option<Hold>,
    ) -> Connection<TcpStream> {
        if let Err(error) = stream.set_nodelay(true) {
            // An answer is one small write: holding it back for more would only delay it.
            tracing::debug!(error = &error as &dyn std::error::Error, "TCP_NODELAY");
        }
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "TCP_NOTSENT_LOWAT"
            );
        }
        Connection {
            stream,
            address,
            patience: self.patience,
            heard: Instant::now(),
            alarm: Box::pin(sleep(self.patience.silence)),
            unread: None,
            traffic: Arc::new(Traffic {
                pending: Mutex::new(pending),
                ..Traffic::default()
            }),
            lingering: None,
            _place: place,
            unheard: Some(Unheard::new(&self.unheard)),
        }
    }

    /// Closes the listener once its queue is empty, since closing it resets those who are in there.
    fn close(&mut self) {
        let end = Instant::now() + FIRST_BYTE;
        let closed = Listening::Closed(VecDeque::new(), end);
        if let Listening::Open(listener) = std::mem::replace(&mut self.listening, closed) {
            self.listening = Listening::Closed(queue(listener), end);
        }
    }
}

/// Those who wait in a listener's queue; it is closed after the last of them.
fn queue(listener: TcpListener) -> VecDeque<(TcpStream, SocketAddr)> {
    let mut queue = VecDeque::new();
    // The runtime hears of new connections a little later than the system: the system itself is asked.
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
    /// Counts a request until what it gives is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        drop(pending.take());
        drop(pending);
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    /// Waits for so long, and until nothing is worked on any more.
    pub(super) async fn is_idle_after(&self, long: Duration) {
        sleep(long).await;
        while self.requests.load(Ordering::Relaxed) > 0 {
            sleep(LOOK).await;
        }
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

/// What counts as one address: an IPv4 address, or the network of an IPv6 address, of which a machine has any number.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

impl<T> Connection<T> {
    /// Where it comes from.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What goes on on it.
    pub(super) fn traffic(&self) -> Arc<Traffic> {
        Arc::clone(&self.traffic)
    }

    /// Pending, until the connection was silent for too long.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let end = self.heard + self.patience.silence;
            if end <= Instant::now() {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(end);
        }
    }

    /// What became of writing; an error where nothing of it was read for too long.
    fn watch_write(
        &mut self,
        context: &mut Context<'_>,
        done: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if done.is_ready() {
            self.traffic.writes.fetch_add(1, Ordering::Relaxed);
            self.unread = None;
            return self.watch(context, done);
        }
        let unread = self.patience.unread;
        let alarm = self.unread.get_or_insert_with(|| Box::pin(sleep(unread)));
        if alarm.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.watch(context, done)
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
        if done.is_ready() {
            self.unheard = None;
        }
        self.watch(context, done)
    }
}

impl<T: AsyncRead + Unpin> Connection<T> {
    /// Pending, until the other side has ended too, or the time is over.
    ///
    /// A system that has bytes which nobody reads ends a connection by a reset, and that takes from the other side also
    /// what was sent to it before: whoever sends a body that is too long would not be told so.
    fn poll_end_of_other_side(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let lingering = self
            .lingering
            .get_or_insert_with(|| Box::pin(sleep(LINGERING)));
        loop {
            if lingering.as_mut().poll(context).is_ready() {
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
        let done = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch_write(context, done)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch_write(context, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
        }
        self.poll_end_of_other_side(context).map(Ok)
    }
}

#[cfg(test)]
mod tests;
