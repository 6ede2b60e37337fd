//! Someone who is told: an address that takes notifications and answers what the test says.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use tokio::net::TcpListener;

use super::*;
use crate::hooks::{Algorithm, Retry, Webhook};

pub(super) const CLIENT: &str = "75588e18-0213-4e33-8174-883acac7e3c4";
pub(super) const SECRET: &str = "the-secret-of-the-app";

/// What came, and what is still to be answered.
#[derive(Debug, Clone)]
pub(super) struct Receiver {
    url: String,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    got: Vec<Got>,
    answers: VecDeque<Answering>,
}

/// How a notification is answered; 200 unless something else is next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answering {
    Status(u16),
    Stall,
}

/// A request that came.
#[derive(Debug, Clone)]
pub(super) struct Got {
    pub(super) headers: HeaderMap,
    pub(super) raw: Bytes,
    /// The raw bytes as JSON.
    pub(super) body: Value,
}

impl Got {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    /// The only change in it.
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

    /// A webhook that goes here.
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

    /// Answers the next notifications so.
    pub(super) fn answer(&self, answers: impl IntoIterator<Item = Answering>) {
        self.shared.lock().unwrap().answers.extend(answers);
    }

    /// What came so far.
    pub(super) fn got(&self) -> Vec<Got> {
        self.shared.lock().unwrap().got.clone()
    }

    /// What came, once there are so many.
    pub(super) async fn await_some(&self, number: usize) -> Vec<Got> {
        eventually(&format!("{number} notifications"), || {
            Some(self.got()).filter(|got| got.len() >= number)
        })
        .await
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, raw: Bytes) -> Response {
    let answering = {
        let mut shared = receiver.shared.lock().unwrap();
        shared.got.push(Got {
            headers,
            body: serde_json::from_slice(&raw).unwrap_or_default(),
            raw,
        });
        shared.answers.pop_front()
    };
    match answering {
        None => StatusCode::OK.into_response(),
        Some(Answering::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answering::Stall) => std::future::pending().await,
    }
}

/// Looks again and again until there is something to return; only a test that fails waits for long.
pub(super) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look() {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looking)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in time"))
}

impl Cloud {
    /// A sandbox that tells a receiver.
    pub(super) async fn telling(retry: Retry) -> (Self, Receiver) {
        let (cloud, receiver) = (Self::new(), Receiver::start().await);
        cloud.sandbox.subscribe(receiver.webhook(retry));
        (cloud, receiver)
    }

    /// Waits until nothing is left to be delivered.
    pub(super) async fn settled(&self) {
        eventually("all delivered", || {
            (self.sandbox.pending_notifications() == 0).then_some(())
        })
        .await;
    }
}
