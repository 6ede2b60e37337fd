//! The simulated Cloud on a port of its own.

use std::sync::Arc;

use chrono::Utc;
use liveperson_bridge::clock::{Clock as _, ManualClock, SharedClock, SystemClock};
use liveperson_bridge::sandbox::webhooks::{Algorithm, Retry, Webhook};
use liveperson_bridge::sandbox::{
    Conversation, Credentials, Operation, Options, RecordedRequest, Sandbox,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::channel::{Channel, Reply, send};

pub(crate) const ACCOUNT: &str = "12345678";
pub(crate) const CLIENT_ID: &str = "75588e18-0213-4e33-8174-883acac7e3c4";
pub(crate) const CLIENT_SECRET: &str = "the-secret-of-the-app";

/// The simulated Cloud, and the clock by which its tokens expire.
#[derive(Debug, Clone)]
pub(crate) struct Cloud {
    pub(crate) sandbox: Sandbox,
    pub(crate) url: String,
    pub(crate) clock: Arc<ManualClock>,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        Self::start_on(clock.clone(), clock).await
    }

    /// Starts a Cloud on system time, for services in processes of their own. Its manual clock has
    /// no effect.
    pub(crate) async fn start_on_system_time() -> Self {
        let clock = Arc::new(ManualClock::new(now()));
        Self::start_on(Arc::new(SystemClock), clock).await
    }

    async fn start_on(shared: SharedClock, clock: Arc<ManualClock>) -> Self {
        let options = Options {
            accounts: vec![Credentials {
                account_id: ACCOUNT.to_owned(),
                client_id: CLIENT_ID.to_owned(),
                client_secret: CLIENT_SECRET.to_owned().into(),
            }],
            ..Options::default()
        };
        let sandbox = Sandbox::new(shared, options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = sandbox.router();
        tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            sandbox,
            url,
            clock,
        }
    }

    /// Subscribes a service to the Cloud's notifications.
    pub(crate) fn subscribe(&self, service: &Channel) {
        let url = format!("http://{}/webhooks/{ACCOUNT}", service.address());
        self.sandbox.subscribe(Webhook {
            account_id: ACCOUNT.to_owned(),
            client_id: CLIENT_ID.to_owned(),
            client_secret: CLIENT_SECRET.to_owned().into(),
            url: url.parse().unwrap(),
            algorithm: Algorithm::Sha256,
            retry: Retry::TimeToLive(86400),
        });
    }

    /// Returns the requests of one kind, in order of arrival.
    pub(crate) fn requests(&self, operation: Operation) -> Vec<RecordedRequest> {
        let mut requests = self.sandbox.requests();
        requests.retain(|request| request.operation == Some(operation));
        requests
    }

    /// Returns the bodies of the requests of one kind.
    pub(crate) fn bodies(&self, operation: Operation) -> Vec<Value> {
        let requests = self.requests(operation);
        requests
            .iter()
            .map(|request| request.json().unwrap())
            .collect()
    }

    /// Returns the texts of a conversation, in order of sequence.
    pub(crate) fn texts(&self, conversation: &str) -> Vec<String> {
        let conversations = self.sandbox.conversations();
        let conversation = conversations
            .iter()
            .find(|known| known.id == conversation)
            .unwrap();
        texts(conversation)
    }

    /// Returns the only conversation.
    pub(crate) fn only_conversation(&self) -> Conversation {
        let conversations = self.sandbox.conversations();
        assert_eq!(conversations.len(), 1, "{conversations:#?}");
        conversations.into_iter().next().unwrap()
    }
}

pub(crate) fn texts(conversation: &Conversation) -> Vec<String> {
    let events = conversation
        .dialogs
        .iter()
        .flat_map(|dialog| &dialog.events);
    events
        .filter(|event| event.event["type"] == "ContentEvent")
        .map(|event| event.event["message"].as_str().unwrap().to_owned())
        .collect()
}

fn now() -> chrono::DateTime<Utc> {
    SystemClock.now()
}

/// Returns a notification's signature by HMAC with SHA-256.
pub(crate) fn sign(body: &[u8], secret: &str) -> String {
    use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
    use base64::Engine as _;

    let tag = sign(&Key::new(HMAC_SHA256, secret.as_bytes()), body);
    let tag = base64::engine::general_purpose::STANDARD.encode(tag);
    format!("sha256={tag}")
}

/// Sends a notification to a service, signed like the Cloud's.
pub(crate) async fn send_notification(service: &Channel, notification: &Value) -> Reply {
    let body = notification.to_string();
    let signature = sign(body.as_bytes(), CLIENT_SECRET);
    let request = service
        .with_key("none")
        .request(Method::POST, &format!("/webhooks/{ACCOUNT}"))
        .header("x-liveperson-account-id", ACCOUNT)
        .header("x-liveperson-client-id", CLIENT_ID)
        .header("x-liveperson-signature", signature);
    send(request.body(body)).await
}

/// 2096-10-02T07:06:40Z: the time of the changes in tests, which are therefore never too old.
pub(crate) const NOTIFIED_AT: i64 = 4_000_000_000_000;

/// Returns the notification of an agent's text.
pub(crate) fn agent_text(conversation: &str, sequence: u32, text: &str) -> Value {
    json!({
        "kind": "notification", "type": "ms.MessagingEventNotification",
        "body": {"changes": [{
            "sequence": sequence, "originatorId": "agent-1",
            "originatorMetadata": {"id": "agent-1", "role": "ASSIGNED_AGENT"},
            "serverTimestamp": NOTIFIED_AT,
            "event": {"type": "ContentEvent", "contentType": "text/plain", "message": text},
            "conversationId": conversation, "dialogId": conversation, "messageAudience": "ALL",
        }]},
    })
}

/// Returns the notification of a conversation's state. The state was updated `after` milliseconds
/// after `NOTIFIED_AT`.
pub(crate) fn state(conversation: &str, consumer: &str, stage: &str, after: i64) -> Value {
    json!({
        "kind": "notification", "type": "cqm.ExConversationChangeNotification",
        "body": {"changes": [{"type": "UPSERT", "result": {
            "convId": conversation, "effectiveTTR": -1,
            "conversationDetails": {
                "skillId": "-1", "participants": [{"id": consumer, "role": "CONSUMER"}],
                "dialogs": [{"dialogId": conversation, "dialogType": "MAIN", "state": stage}],
                "state": stage, "stage": stage, "closeReason": "AGENT",
                "startTs": NOTIFIED_AT, "metaDataLastUpdateTs": NOTIFIED_AT + after,
            },
        }}]},
    })
}
