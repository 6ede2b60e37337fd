//! Tests of the client against a server that answers as each test specifies.

mod domains;
mod opening;
mod sending;
mod tokens;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::matchers::{method, path, query_param};
use wiremock::{Match, Mock, MockBuilder, MockServer, Request, Respond, ResponseTemplate};

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::types::conversation::Features;
use crate::types::ids::ConversationId;

const ACCOUNT: &str = "12345678";
const EXTERNAL_ID: &str = "sms:+15551234567";
const SECRET: &str = "s&cret=1";
const CONSUMER_TOKEN: &str = "consumer.jws.one";
const CONV: &str = "0b4e8a70-7a1e-4c3f-9d58-0c3b9c1f2a11";

const OPEN: &str = "/api/account/12345678/messaging/consumer/conversation";
const SEND: &str = "/api/account/12345678/messaging/consumer/conversation/send";
const CONSUMER: &str = "/api/account/12345678/consumer";
const APP_TOKEN: &str = "/sentinel/api/account/12345678/app/token";

fn consumer_jws(token: &str) -> Option<ConsumerJws> {
    ConsumerJws::new(token.as_bytes().to_vec().into())
}

/// A simulated Cloud on one server, and a client that calls it.
struct Cloud {
    server: MockServer,
    clock: Arc<ManualClock>,
    client: Client,
    account: AccountId,
    consumer_token: ConsumerJws,
    conversation: ConversationId,
    features: Features,
    trace: Trace,
}

/// Returns the account, whose services are looked up at this server.
fn account_at(server: &MockServer) -> Account {
    Account {
        id: ACCOUNT.parse().unwrap(),
        client_id: "app".to_owned(),
        client_secret: SECRET.into(),
        domain_api: server.uri().parse().unwrap(),
        allow_http_hosts: Vec::new(),
    }
}

impl Cloud {
    /// Starts a Cloud that answers no request.
    async fn silent() -> Self {
        Self::with_limits(Limits {
            lookup: Duration::from_secs(10),
            token: Duration::from_secs(10),
            conversation: Duration::from_secs(10),
            send: Duration::from_secs(10),
            upload: Duration::from_secs(10),
            pause: Duration::from_millis(1),
        })
        .await
    }

    async fn with_limits(limits: Limits) -> Self {
        let server = MockServer::start().await;
        let clock = Arc::new(ManualClock::new("2026-11-22T08:00:00Z".parse().unwrap()));
        let client = Client::with_limits(
            &http::Client::new(http::Proxy::None).unwrap(),
            &(Arc::clone(&clock) as SharedClock),
            &Metrics::default(),
            [account_at(&server)],
            limits,
        );
        Self {
            server,
            clock,
            client,
            account: ACCOUNT.parse().unwrap(),
            consumer_token: consumer_jws(CONSUMER_TOKEN).unwrap(),
            conversation: CONV.parse().unwrap(),
            features: Features::default(),
            trace: Trace::continue_from(Some("req-1"), None, Uuid::nil()),
        }
    }

    /// Starts a Cloud that answers with its domains and with `AppJWT`s.
    async fn ready() -> Self {
        let cloud = Self::silent().await;
        cloud.mock_domains().await;
        cloud.mock_token(1).await;
        cloud
    }

    /// Lets the domain API return this server for every service.
    async fn mock_domains(&self) {
        for service in Service::ALL {
            self.mock_domain(service, &self.server.uri()).await;
        }
    }

    async fn mock_domain(&self, service: Service, base: &str) {
        domain_of(service)
            .respond_with(ok(
                json!({"service": service.name(), "account": ACCOUNT, "baseURI": base}),
            ))
            .mount(&self.server)
            .await;
    }

    /// Returns the `AppJWT` with this number, valid for an hour from now.
    fn app_token(&self, number: u32) -> String {
        let iat = self.clock.now().timestamp();
        jwt(&json!({"jti": number, "iss": "Sentinel", "iat": iat, "exp": iat + 3600}))
    }

    /// Lets Sentinel return the `AppJWT` with this number, once.
    async fn mock_token(&self, number: u32) {
        app_token()
            .respond_with(ok(
                json!({"access_token": self.app_token(number), "token_type": "Bearer"}),
            ))
            .up_to_n_times(1)
            .mount(&self.server)
            .await;
    }

    async fn on(&self, path: &str, answer: impl Respond + 'static) {
        posted(path).respond_with(answer).mount(&self.server).await;
    }

    async fn requests_to(&self, path: &str) -> Vec<Request> {
        let mut requests = self.server.received_requests().await.unwrap();
        requests.retain(|request| request.url.path() == path);
        requests
    }

    fn consumer(&self) -> Consumer<'_> {
        Consumer {
            account: &self.account,
            token: &self.consumer_token,
        }
    }

    fn conversation(&self) -> Conversation<'_> {
        Conversation {
            consumer: self.consumer(),
            id: &self.conversation,
            dialog_id: CONV,
            features: &self.features,
            time_limit: None,
        }
    }

    async fn publish(&self) -> Result<u32, Error> {
        let conversation = self.conversation();
        self.client
            .publish(&conversation, Content::Text("Hello"), None, &self.trace)
            .await
    }

    async fn consumer_token(&self) -> Result<ConsumerToken, Error> {
        self.client
            .consumer_token(&self.account, EXTERNAL_ID, &self.trace)
            .await
    }
}

fn jwt(claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": "appjwt-13-05-17"});
    format!("{}.{}.c2lnbmF0dXJl", part(&header), part(claims))
}

fn ok(body: impl serde::Serialize) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(body)
}

fn posted(to: &str) -> MockBuilder {
    Mock::given(method("POST")).and(path(to))
}

fn app_token() -> MockBuilder {
    posted(APP_TOKEN).and(query_param("v", "1.0"))
}

fn domain_of(service: Service) -> MockBuilder {
    let name = service.name();
    Mock::given(method("GET"))
        .and(path(format!(
            "/api/account/{ACCOUNT}/service/{name}/baseURI.json"
        )))
        .and(query_param("version", "1.0"))
}

/// Answers one request in an envelope with its own id.
fn envelope(status: u16, code: impl Into<Value>, body: Value) -> impl Respond {
    let code = code.into();
    move |request: &Request| {
        let id = &request.body_json::<Value>().unwrap()["id"];
        ResponseTemplate::new(status)
            .set_body_json(json!({"code": code, "body": body, "reqId": id}))
    }
}

/// Refuses a token as the Cloud does.
fn token_refused(error_code: u32) -> ResponseTemplate {
    ResponseTemplate::new(401).set_body_json(json!({"kind": "resp", "code": 401, "type": ".ReqBody$ErrorResp",
        "body": {"title": "Invalid token", "details": "It has expired or is invalid", "errorCode": error_code}}))
}

/// Matches requests without the header.
struct Without(&'static str);

impl Match for Without {
    fn matches(&self, request: &Request) -> bool {
        !request.headers.contains_key(self.0)
    }
}

/// Returns a base URL that refuses connections.
fn dead_base() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_error_names_the_account_that_is_not_configured() {
    let cloud = Cloud::silent().await;
    let unknown: AccountId = "unknown".parse().unwrap();

    let error = cloud
        .client
        .consumer_token(&unknown, EXTERNAL_ID, &cloud.trace)
        .await
        .unwrap_err();

    assert_eq!(error.to_string(), "account unknown is not configured");
}

#[tokio::test]
async fn calls_can_move_between_threads() {
    fn assert_send(_: impl Send) {}
    let cloud = Cloud::silent().await;
    let (client, account) = (&cloud.client, &cloud.account);

    assert_send(cloud.publish());
    assert_send(cloud.consumer_token());
    assert_send(client.signal(&cloud.conversation(), Signal::Close, &cloud.trace));
    assert_send(client.find_open_conversation(account, EXTERNAL_ID, &cloud.trace));
}

#[tokio::test]
async fn debug_output_of_the_cloud_client_shows_no_secret() {
    let cloud = Cloud::ready().await;
    cloud
        .on(
            CONSUMER,
            ok(json!({"token": jwt(&json!({"lp_consumer_id": "CONS"}))})),
        )
        .await;
    let token = cloud.consumer_token().await.unwrap();

    let account = account_at(&cloud.server);
    let shown = format!(
        "{token:?} {account:?} {:?} {:?}",
        cloud.client,
        cloud.consumer()
    );

    for secret in [SECRET, CONSUMER_TOKEN, "CONS\"", "eyJ"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
