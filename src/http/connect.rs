//! Outgoing connections: direct or through a proxy, with TLS if the URL requires it, and within a
//! time limit.
//!
//! Each client has its own resolver. The environment determines which requests go through a proxy.
//! A request over TLS goes through a tunnel, so that the proxy sees only its host.

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

use super::{TimedOut, USER_AGENT_VALUE};

/// 15 s: the idle time before the first keep-alive probe of a connection, and the interval of
/// further probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// The number of unanswered probes after which a connection is closed.
const KEEPALIVE_PROBES: u32 = 3;

/// 30 s: the time after which a connection is closed if sent data is not acknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

/// The error type that the library requires.
type BoxError = Box<dyn StdError + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// A resolver, which returns the addresses that may be connected to.
pub trait Resolve: Send + Sync + 'static {
    /// The reason that there are no addresses.
    type Error: StdError + Send + Sync + 'static;

    /// Resolves a name to its addresses. Their ports are ignored.
    fn resolve(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Vec<SocketAddr>, Self::Error>> + Send;
}

/// A resolver that resolves names as the machine does.
pub(super) struct SystemResolver;

impl Resolve for SystemResolver {
    type Error = io::Error;

    async fn resolve(&self, name: &str) -> Result<Vec<SocketAddr>, io::Error> {
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

/// The TLS configuration of the machine is unusable.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct TlsSetupError(#[from] rustls::Error);

/// A connector. It is cloned for each request, so all of it is shared.
#[derive(Clone)]
pub(super) struct Connector(Arc<Inner>);

struct Inner {
    connector: HttpsConnector<Routes>,
    limit: Duration,
}

impl Connector {
    pub(super) fn new(
        resolver: impl Resolve,
        proxies: Option<Arc<Matcher>>,
        limit: Duration,
    ) -> Result<Self, TlsSetupError> {
        let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()?
            .try_with_platform_verifier()?
            .with_no_client_auth();
        let tcp = tcp(ResolverService::of(resolver), limit);
        let proxies = proxies.map(|matcher| Proxies {
            matcher,
            // HTTP/1.1 only, since the client requests a tunnel in that version.
            connector: HttpsConnector::<()>::builder()
                .with_tls_config(tls.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(tcp.clone()),
        });
        let connector = HttpsConnector::<()>::builder()
            .with_tls_config(tls)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(Routes { tcp, proxies });
        Ok(Self(Arc::new(Inner { connector, limit })))
    }
}

fn tcp(names: ResolverService, limit: Duration) -> HttpConnector<ResolverService> {
    let mut tcp = HttpConnector::new_with_resolver(names);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // The limit is divided among the addresses of a name, so that an unreachable first address does
    // not use up all of it.
    tcp.set_connect_timeout(Some(limit));
    tcp.set_keepalive(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    tcp
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<ClientConnection>;
    type Error = BoxError;
    type Future = BoxFuture<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Inner { connector, limit } = &*self.0;
        let (mut connector, limit) = (connector.clone(), *limit);
        Box::pin(async move {
            let connection = timeout(limit, connector.call(to)).await;
            connection.unwrap_or_else(|_| Err(TimedOut.into()))
        })
    }
}

/// The routes to a host: direct, or through a proxy.
#[derive(Clone)]
struct Routes {
    tcp: HttpConnector<ResolverService>,
    proxies: Option<Proxies>,
}

#[derive(Clone)]
struct Proxies {
    matcher: Arc<Matcher>,
    /// The connector to a proxy, which may itself require TLS.
    connector: HttpsConnector<HttpConnector<ResolverService>>,
}

impl Service<Uri> for Routes {
    type Response = ClientConnection;
    type Error = BoxError;
    type Future = BoxFuture<ClientConnection>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let proxied = self.proxies.as_ref().and_then(|proxies| {
            let proxy = proxies.matcher.intercept(&to)?;
            Some((proxy, proxies.connector.clone()))
        });
        let Some((proxy, mut connector)) = proxied else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move {
                let stream = MaybeHttpsStream::Http(connecting.await?);
                let is_proxied = false;
                Ok(ClientConnection { stream, is_proxied })
            });
        };
        if to.scheme() == Some(&Scheme::HTTPS) {
            let headers = HeaderMap::from_iter([(USER_AGENT, USER_AGENT_VALUE)]);
            let mut tunnel = Tunnel::new(proxy.uri().clone(), connector).with_headers(headers);
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            let connecting = tunnel.call(to);
            return Box::pin(async move {
                let stream = connecting.await?;
                let is_proxied = false;
                Ok(ClientConnection { stream, is_proxied })
            });
        }
        let connecting = connector.call(proxy.uri().clone());
        Box::pin(async move {
            let stream = connecting.await?;
            let is_proxied = true;
            Ok(ClientConnection { stream, is_proxied })
        })
    }
}

/// Returns the proxy's authorization for a request to `to`. `None` over TLS, since the tunnel
/// carries it then.
pub(super) fn proxy_authorization(proxies: &Matcher, to: &Uri) -> Option<HeaderValue> {
    if to.scheme() != Some(&Scheme::HTTP) {
        return None;
    }
    proxies.intercept(to)?.basic_auth().cloned()
}

/// The resolver in the form that the library requires.
#[derive(Clone)]
struct ResolverService(Arc<dyn Fn(Name) -> BoxFuture<vec::IntoIter<SocketAddr>> + Send + Sync>);

impl ResolverService {
    fn of(resolver: impl Resolve) -> Self {
        let resolver = Arc::new(resolver);
        Self(Arc::new(move |name| {
            let resolver = Arc::clone(&resolver);
            Box::pin(async move { Ok(resolver.resolve(name.as_str()).await?.into_iter()) })
        }))
    }
}

impl Service<Name> for ResolverService {
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
pub(super) struct ClientConnection {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// True if a proxy reads the requests. Each request then names its host in the target.
    is_proxied: bool,
}

impl Connection for ClientConnection {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.is_proxied)
    }
}

impl Read for ClientConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl Write for ClientConnection {
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
