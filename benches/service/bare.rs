//! A bare proxy of the service's libraries, which shows their cost without the service. It reads a
//! request, calls the Cloud and answers, and knows neither users nor channels. It is a process of
//! its own, started from this program.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Request, header};
use axum::response::IntoResponse;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::cloud::{Cloud, SEND, app_token, consumer_token};
use crate::machine::{Machine, Measured};

/// The environment variable with the Cloud's URL, for the process that is to be the proxy.
pub(crate) const UPSTREAM: &str = "BENCH_BARE_UPSTREAM";

/// A running proxy.
pub(crate) struct Bare {
    process: Child,
    address: String,
}

impl Bare {
    /// Starts a proxy on the core that the service will use.
    pub(crate) fn start(machine: &Machine, cloud: &Cloud) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut process = Machine::command_on(&machine.server_cores, program.to_str().unwrap())
            .env(UPSTREAM, cloud.url())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        output.read_line(&mut address).unwrap();
        Self {
            process,
            address: address.trim().to_owned(),
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn process(&self) -> Measured {
        Measured {
            name: "proxy",
            id: self.process.id(),
        }
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _may_have_ended = self.process.wait();
    }
}

/// The data that each request needs.
struct Upstream {
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
    tokens: [String; 2],
}

/// Runs the proxy, until it is killed.
pub(crate) fn serve(upstream: &str) {
    Runtime::new().unwrap().block_on(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let upstream = Upstream {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: format!("{upstream}{SEND}"),
            tokens: [app_token(), consumer_token()],
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let router = Router::new()
            .fallback(forward)
            .with_state(&*Box::leak(Box::new(upstream)));
        axum::serve(listener, router).await.unwrap();
    });
}

async fn forward(State(upstream): State<&'static Upstream>, body: Bytes) -> impl IntoResponse {
    let [app, consumer] = &upstream.tokens;
    let request = Request::post(&upstream.url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, app)
        .header("x-lp-on-behalf", consumer)
        .body(Full::new(body))
        .unwrap();
    let answer = upstream.client.request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap();
    (
        [(header::CONTENT_TYPE, "application/json")],
        body.to_bytes(),
    )
}
