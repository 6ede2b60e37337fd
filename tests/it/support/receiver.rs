//! A channel's callback that records requests and gives the answers that the test chooses.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::patience::eventually;

/// A secret that signs callback requests.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A request that the receiver has got.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An answer of the receiver.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and headers.
    Status(u16, Vec<(&'static str, String)>),
    /// 200, as soon as the test allows it.
    Later(Arc<Notify>),
    /// No answer, while the connection stays open.
    Stall,
}

type AnswerFn = Box<dyn FnMut(&Received) -> Answer + Send>;

/// A running receiver; clones share it.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<Received>>>,
    answer_fn: Arc<Mutex<AnswerFn>>,
}

impl Received {
    /// Returns a header's value.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the text of the event.
    pub(crate) fn text(&self) -> String {
        self.json()["data"]["text"].as_str().unwrap().to_owned()
    }
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Status(status, vec![])
    }
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/callback", listener.local_addr().unwrap()),
            received: Arc::default(),
            answer_fn: Arc::new(Mutex::new(Box::new(|_| Answer::status(200)))),
        };
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    /// Answers with this function from now on.
    pub(crate) fn answer(&self, answer_fn: impl FnMut(&Received) -> Answer + Send + 'static) {
        *self.answer_fn.lock().unwrap() = Box::new(answer_fn);
    }

    /// Answers with this status from now on.
    pub(crate) fn answer_status(&self, status: u16) {
        self.answer(move |_| Answer::status(status));
    }

    /// Returns all requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Forgets all requests so far.
    pub(crate) fn forget(&self) {
        self.received.lock().unwrap().clear();
    }

    /// Returns the texts of the events so far.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.received().iter().map(Received::text).collect()
    }

    /// Waits until at least this number of requests has arrived.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} callbacks"), async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Received {
        path: uri.path().to_owned(),
        headers,
        body,
    };
    let answer = (receiver.answer_fn.lock().unwrap())(&request);
    receiver.received.lock().unwrap().push(request);
    match answer {
        Answer::Status(status, headers) => {
            let mut response = StatusCode::from_u16(status).unwrap().into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Answer::Later(signal) => {
            signal.notified().await;
            StatusCode::OK.into_response()
        }
        Answer::Stall => std::future::pending().await,
    }
}
