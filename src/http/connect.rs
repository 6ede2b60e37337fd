//! How connections are made: directly or through a proxy, with TLS where the URL asks for it, and within a limit.
//!
//! Names are resolved by whoever the client was given for that. Which requests go through a proxy is said by the environment;
//! one that asks for TLS goes through a tunnel, so that the proxy sees nothing of it but its host.

use std::error::Error as StdError;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper::Uri;
use hyper::header::{HeaderMap, HeaderValue, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::{OUR_NAME, TimedOut};

/// 15 s: how long a connection is silent before the other side is asked whether it is there, and how long between askings.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Askings without an answer after which a connection is given up.
const KEEPALIVE_TRIES: u32 = 3;

/// 30 s: after how long a connection is given up on which what was sent is not acknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

/// What the library wants errors to be.
type BoxError = Box<dyn StdError + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Finds the addresses that may be connected to.
pub trait Resolve: Send + Sync + 'static {
    /// Why there are none.
    type Error: StdError + Send + Sync + 'static;

    /// The addresses of a name; their ports mean nothing.
    fn resolve(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, Self::Error>> + Send;
}

/// Resolves names as the machine does.
pub(super) struct Anywhere;

impl Resolve for Anywhere {
    type Error = io::Error;

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, io::Error> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The TLS set-up of the machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct Unusable(#[from] rustls::Error);

/// Makes connections. It is cloned for each request, so all of it is shared.
#[derive(Clone)]
pub(super) struct Connector(Arc<Limited>);

struct Limited {
    ways: HttpsConnector<Ways>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(
        resolver: impl Resolve,
        proxies: Option<Arc<Matcher>>,
        limit: Duration,
    ) -> Result<Self, Unusable> {
        let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        let tcp = tcp(Names::of(resolver), limit);
        let proxies = proxies.map(|matcher| Proxies {
            matcher,
            // HTTP/1.1 alone: a tunnel is asked for in it.
            way: HttpsConnector::<()>::builder()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp.clone()),
        });
        let ways = HttpsConnector::<()>::builder()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Ways { tcp, proxies });
        Ok(Self(Arc::new(Limited { ways, limit })))
    }
}

fn tcp(names: Names, limit: Duration) -> HttpConnector<Names> {
    let mut tcp = HttpConnector::new_with_resolver(names);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Shared out among the addresses of a name, so that the first one that is away does not use up all of it.
    tcp.set_connect_timeout(Some(limit));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_keepalive_interval(Some(KEEPALIVE));
    tcp.set_keepalive_retries(Some(KEEPALIVE_TRIES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    tcp
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Wire>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Limited { ways, limit } = &*self.0;
        let (mut ways, limit) = (ways.clone(), *limit);
        Box::pin(async move {
            let made = timeout(limit, ways.call(to)).await;
            made.unwrap_or_else(|_| Err(TimedOut.into()))
        })
    }
}

/// The ways to a host.
#[derive(Clone)]
struct Ways {
    tcp: HttpConnector<Names>,
    proxies: Option<Proxies>,
}

#[derive(Clone)]
struct Proxies {
    matcher: Arc<Matcher>,
    /// The way to a proxy, which may itself ask for TLS.
    way: HttpsConnector<HttpConnector<Names>>,
}

impl Service<Uri> for Ways {
    type Response = Wire;
    type Error = BoxError;
    type Future = BoxFuture<Wire>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxied = self.proxies.as_ref().and_then(|proxies| {
            let proxy = proxies.matcher.intercept(&to)?;
            Some((proxy, proxies.way.clone()))
        });
        let Some((proxy, mut way)) = proxied else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move {
                let stream = MaybeHttpsStream::Http(connecting.await?);
                let is_proxied = false;
                Ok(Wire { stream, is_proxied })
            });
        };
        if to.scheme() == Some(&Scheme::HTTPS) {
            let headers = HeaderMap::from_iter([(USER_AGENT, OUR_NAME)]);
            let mut tunnel = Tunnel::new(proxy.uri().clone(), way).with_headers(headers);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let connecting = tunnel.call(to);
            return Box::pin(async move {
                let stream = connecting.await?;
                let is_proxied = false;
                Ok(Wire { stream, is_proxied })
            });
        }
        let connecting = way.call(proxy.uri().clone());
        Box::pin(async move {
            let stream = connecting.await?;
            let is_proxied = true;
            Ok(Wire { stream, is_proxied })
        })
    }
}

/// What a request to `to` has to bear for a proxy to pass it on; a tunnel's bears it itself.
pub(super) fn proxy_authorization(proxies: &Matcher, to: &Uri) -> Option<HeaderValue> {
    if to.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    proxies.intercept(to)?.basic_auth().cloned()
}

/// Resolves names for the library.
#[derive(Clone)]
struct Names(Arc<dyn Fn(Name) -> BoxFuture<vec::IntoIter<SocketAddr>> + Send + Sync>);

impl Names {
    fn of(resolver: impl Resolve) -> Self {
        let resolver = Arc::new(resolver);
        Self(Arc::new(move |name| {
            let resolver = Arc::clone(&resolver);
            Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.into_iter()) })
        }))
    }
}

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        (self.0)(name)
    }
}

/// A connection, before TLS with the host itself.
pub(super) struct Wire {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy reads the requests, which then name their host.
    is_proxied: bool,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
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
