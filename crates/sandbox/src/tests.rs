//! Tests of the sandbox from outside: requests go through its router, as a client's requests do.

mod agent;
mod control;
mod domains;
mod opening;
mod page;
mod receiver;
mod reported_states;
mod sending;
mod stage;
mod storage;
mod surveys;
mod time;
mod tokens;
mod webhooks;
mod wire;

use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use chrono::DateTime;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Conversation, Options, Sandbox};
use liveperson_bridge_clock::ManualClock;

const ACCOUNT: &str = "le12345678";
const JSON: (&str, &str) = ("content-type", "application/json");
const FEATURES: &str = r#"{"type":".ClientProperties","features":["AUTO_MESSAGES"]}"#;

/// A sandbox with a clock that only moves when a test moves it.
struct Cloud {
    sandbox: Sandbox,
    clock: Arc<ManualClock>,
}

/// The two tokens of a consumer.
#[derive(Clone)]
struct Tokens {
    app: String,
    consumer: String,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
    /// The bytes as JSON, or else as text.
    body: Value,
}

impl Answer {
    /// Returns the text that describes the mistake, from any place in the envelope.
    fn complaint(&self) -> &str {
        ["/error", "/body/msg", "/body/details", "/error_description"]
            .into_iter()
            .find_map(|pointer| self.body.pointer(pointer)?.as_str())
            .unwrap_or_else(|| panic!("no complaint in {}", self.body))
    }

    #[track_caller]
    fn assert(&self, status: u16, body: Value) {
        assert_eq!((self.status.as_u16(), self.body.clone()), (status, body));
    }

    #[track_caller]
    fn assert_complaint(&self, status: u16, expected: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        let complaint = self.complaint();
        assert!(
            complaint.contains(expected),
            "`{expected}` not in: {complaint}"
        );
    }
}

impl Cloud {
    fn new() -> Self {
        Self::with(Options::default())
    }

    fn with(options: Options) -> Self {
        let start = DateTime::from_timestamp_millis(1_800_000_000_000).unwrap();
        let clock = Arc::new(ManualClock::new(start));
        let sandbox = Sandbox::new(clock.clone(), options).unwrap();
        Self { sandbox, clock }
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(chrono::Duration::seconds(seconds));
    }

    async fn call(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let response = self.sandbox.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        }
    }

    async fn app_token(&self) -> String {
        let uri = format!(
            "/sentinel/api/account/{ACCOUNT}/app/token?v=1.0&grant_type=client_credentials&client_id=app&client_secret=s3cret"
        );
        let answer = self.call("POST", &uri, &[], "").await;
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    async fn consumer_token(&self, app: &str, ext_consumer_id: &str) -> Answer {
        let uri = format!("/api/account/{ACCOUNT}/consumer?v=1.0");
        let body = json!({"ext_consumer_id": ext_consumer_id}).to_string();
        self.call("POST", &uri, &[JSON, ("authorization", app)], body)
            .await
    }

    async fn tokens(&self, ext_consumer_id: &str) -> Tokens {
        let app = self.app_token().await;
        let answer = self.consumer_token(&app, ext_consumer_id).await;
        let consumer = answer.body["token"].as_str().unwrap().to_owned();
        Tokens { app, consumer }
    }

    async fn post(
        &self,
        path: &str,
        tokens: &Tokens,
        features: Option<&str>,
        body: &Value,
    ) -> Answer {
        let uri = format!("/api/account/{ACCOUNT}/messaging/consumer/conversation{path}?v=3");
        let mut headers = vec![
            JSON,
            ("authorization", &tokens.app),
            ("x-lp-on-behalf", &tokens.consumer),
        ];
        headers.extend(features.map(|features| ("client-properties", features)));
        self.call("POST", &uri, &headers, body.to_string()).await
    }

    async fn open_with(&self, tokens: &Tokens, features: Option<&str>, batch: &Value) -> Answer {
        self.post("", tokens, features, batch).await
    }

    /// Opens a conversation and returns its id.
    async fn open(&self, tokens: &Tokens) -> String {
        let answer = self
            .open_with(tokens, None, &batch(&json!({}), &json!({})))
            .await;
        conversation_id(&answer)
    }

    async fn send(&self, tokens: &Tokens, request: &Value) -> Answer {
        self.post("/send", tokens, None, request).await
    }

    #[track_caller]
    fn conversation(&self, id: &str) -> Conversation {
        let conversations = self.sandbox.conversations();
        conversations.into_iter().find(|c| c.id == id).unwrap()
    }
}

fn conversation_id(answer: &Answer) -> String {
    answer.body[1]["body"]["conversationId"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Builds a batch with this profile, and with these members besides `brandId`.
fn batch(profile: &Value, opening: &Value) -> Value {
    let mut body = json!({"brandId": ACCOUNT});
    body.as_object_mut()
        .unwrap()
        .extend(opening.as_object().unwrap().clone());
    json!([
        {"kind": "req", "id": "1,", "type": "userprofile.SetUserProfile", "body": profile},
        {"kind": "req", "id": "2,", "type": "cm.ConsumerRequestConversation", "body": body},
    ])
}

fn publish(conversation: &str, event: &Value) -> Value {
    let body = json!({"dialogId": conversation, "conversationId": conversation, "event": event});
    json!({"kind": "req", "id": "p", "type": "ms.PublishEvent", "body": body})
}

fn text(conversation: &str, message: &str) -> Value {
    let event = json!({"type": "ContentEvent", "contentType": "text/plain", "message": message});
    publish(conversation, &event)
}

fn update(conversation: &str, field: &Value) -> Value {
    let body = json!({"conversationId": conversation, "conversationField": field});
    json!({"kind": "req", "id": "u", "type": "cm.UpdateConversationField", "body": body})
}

fn close(conversation: &str) -> Value {
    let field = json!({"field": "ConversationStateField", "conversationState": "CLOSE"});
    update(conversation, &field)
}
