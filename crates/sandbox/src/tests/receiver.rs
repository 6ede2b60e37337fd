//! A receiver of notifications, whose answers a test chooses.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use super::*;
use crate::webhooks::{Algorithm, Retry, Webhook};

pub(super) const CLIENT: &str = "75588e18-0213-4e33-8174-883acac7e3c4";
pub(super) const SECRET: &str = "the-secret-of-the-app";

/// A receiver, with the requests that arrived and the answers that it has still to send.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    got: Vec<ReceivedRequest>,
    answers: VecDeque<ReceiverAnswer>,
}

/// The answer to a notification; 200 unless a test chose another one.
#[derive(Debug, Clone, Copy)]
pub(super) enum ReceiverAnswer {
    Status(u16),
    Stall,
}

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct ReceivedRequest {
    pub(super) headers: HeaderMap,
    pub(super) raw: Bytes,
    /// The raw bytes as JSON.
    pub(super) body: Value,
}

impl ReceivedRequest {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// Returns the only change in it.
    #[track_caller]
    pub(super) fn change(&self) -> &Value {
        let changes = self.body["body"]["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1, "{}", self.body);
        &changes[0]
    }
}

impl Receiver {
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends with the test, which nothing waits for"
    )]
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            url: format!("http://{}/webhooks", listener.local_addr().unwrap()),
            shared: Arc::default(),
        };
        let router = Router::new()
            .route("/webhooks", axum::routing::post(receive))
            .with_state(receiver.clone());
        tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        receiver
    }

    /// Returns a webhook with this receiver as its destination.
    pub(super) fn webhook(&self, retry: Retry) -> Webhook {
        Webhook {
            account_id: ACCOUNT.to_owned(),
            client_id: CLIENT.to_owned(),
            client_secret: SECRET.to_owned().into(),
            url: self.url.parse().unwrap(),
            algorithm: Algorithm::Sha1,
            retry,
        }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Sets the answers to the next notifications.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = ReceiverAnswer>) {
        self.shared.lock().unwrap().answers.extend(answers);
    }

    /// Returns the requests so far.
    pub(super) fn got(&self) -> Vec<ReceivedRequest> {
        self.shared.lock().unwrap().got.clone()
    }

    /// Waits for this number of requests, and returns them.
    pub(super) async fn wait_for(&self, number: usize) -> Vec<ReceivedRequest> {
        eventually(&format!("{number} notifications"), || {
            Some(self.got()).filter(|got| got.len() >= number)
        })
        .await
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, raw: Bytes) -> Response {
    let answer = {
        let mut shared = receiver.shared.lock().unwrap();
        shared.got.push(ReceivedRequest {
            headers,
            body: serde_json::from_slice(&raw).unwrap_or_default(),
            raw,
        });
        shared.answers.pop_front()
    };
    match answer {
        None => StatusCode::OK.into_response(),
        Some(ReceiverAnswer::Status(status)) => {
            StatusCode::from_u16(status).unwrap().into_response()
        }
        Some(ReceiverAnswer::Stall) => std::future::pending().await,
    }
}

/// Polls until `condition` returns a value. Only a failing test waits for long.
pub(super) async fn eventually<T>(name: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let polling = async {
        loop {
            ticks.tick().await;
            if let Some(found) = condition() {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), polling)
        .await
        .unwrap_or_else(|_| panic!("{name}: not in time"))
}

impl Cloud {
    /// Creates a sandbox with a receiver that is subscribed to it.
    pub(super) async fn with_receiver(retry: Retry) -> (Self, Receiver) {
        let (cloud, receiver) = (Self::new(), Receiver::start().await);
        cloud.sandbox.subscribe(receiver.webhook(retry));
        (cloud, receiver)
    }

    /// Waits until all notifications are delivered.
    pub(super) async fn settled(&self) {
        eventually("all delivered", || {
            (self.sandbox.pending_notifications() == 0).then_some(())
        })
        .await;
    }
}
