//! Authorization: tokens beside API keys, tokens for one user, rate limits, and CORS for browsers.

use chrono::TimeDelta;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use liveperson_bridge::clock::Clock as _;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::Cloud;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;

on_both_engines!(
    a_token_serves_as_well_as_a_key,
    a_channel_may_have_tokens_of_any_algorithm_and_no_key,
    a_token_that_is_not_the_channels_is_refused,
    a_correctly_signed_but_invalid_token_gets_a_reason,
    a_token_for_one_user_opens_only_that_users_paths,
    a_token_for_one_user_shows_only_that_users_events,
    requests_over_the_channels_rate_limit_are_refused_with_429,
    a_rate_limit_per_user_does_not_affect_other_users,
    cors_allows_only_a_token_for_one_user,
);

const SECRET: &str = "a-shared-secret-of-at-least-32-bytes";
const FORMER_SECRET: &str = "the-secret-that-was-shared-before-it";
const OTHER_SECRET: &str = "another-secret-of-at-least-32-bytes";
const UNKNOWN_CREDENTIAL: &str = "This is neither a known API key nor a valid token.";
const ORIGIN: &str = "https://shop.example.com";

/// Starts a service with these lines added to the configuration of channel `sms`.
async fn start(engine: Engine, lines: &str) -> TestApp {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let lines = format!("id = \"sms\"\n{lines}\n");
    let change = |toml: String| toml.replacen("id = \"sms\"\n", &lines, 1);
    TestApp::start_configured(cloud, database, change).await
}

async fn with_tokens(engine: Engine) -> TestApp {
    let jwt = format!(r#"jwt = {{algorithm = "HS256", key = ["{SECRET}", "{FORMER_SECRET}"]}}"#);
    start(engine, &format!("{jwt}\ncors_origins = [\"{ORIGIN}\"]")).await
}

fn signed(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

/// Returns the channel with a token in place of its key, valid for a minute by the service's clock.
fn with_token(app: &TestApp, secret: &str, mut claims: Value) -> Channel {
    let exp = (app.cloud.clock.now() + TimeDelta::minutes(1)).timestamp();
    if claims.get("exp").is_none() {
        claims["exp"] = exp.into();
    }
    app.sms.with_key(&hs256(secret, &claims))
}

fn hs256(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    signed(Algorithm::HS256, &key, claims)
}

async fn a_token_serves_as_well_as_a_key(engine: Engine) {
    let app = with_tokens(engine).await;
    let token = with_token(&app, SECRET, json!({"iss": "sms"}));
    let former = with_token(&app, FORMER_SECRET, json!({"iss": "sms", "aud": "anybody"}));

    let sent = token.say("ada", "hello").await.expect(201);
    former.say("ada", "hello").await.expect(201);
    app.sms.say("ada", "hello").await.expect(201);

    let id = sent["conversation_id"].as_str().unwrap();
    assert_eq!(app.cloud.texts(id).len(), 3);
    token.get("/v1/events").await.expect(200);
    token.get("/v1/deliveries?state=failed").await.expect(200);
}

async fn a_channel_may_have_tokens_of_any_algorithm_and_no_key(engine: Engine) {
    let rsa = include_bytes!("../keys/rsa.private.pem");
    let p256 = include_bytes!("../keys/p256.private.pem");
    let ed25519 = include_bytes!("../keys/ed25519.private.pem");
    let kinds = [
        (
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(rsa).unwrap(),
            include_str!("../keys/rsa.public.pem"),
        ),
        (
            Algorithm::ES256,
            EncodingKey::from_ec_pem(p256).unwrap(),
            include_str!("../keys/p256.public.pem"),
        ),
        (
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(ed25519).unwrap(),
            include_str!("../keys/ed25519.public.pem"),
        ),
    ];
    let channels: Vec<String> = kinds
        .iter()
        .map(|(algorithm, _, public)| {
            format!(
                "[[channels]]\nid = \"{algorithm:?}\"\naccount_id = \"12345678\"\n\
                 jwt = {{algorithm = \"{algorithm:?}\", key = \"\"\"{public}\"\"\"}}\n"
            )
        })
        .collect();
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let app =
        TestApp::start_configured(cloud, database, |toml| toml + channels.concat().as_str()).await;

    for (algorithm, private, _) in &kinds {
        let exp = (app.cloud.clock.now() + TimeDelta::minutes(1)).timestamp();
        let claims = json!({"iss": format!("{algorithm:?}"), "exp": exp});
        let token = app.sms.with_key(&signed(*algorithm, private, &claims));

        token.say("ada", "hello").await.expect(201);
    }
    assert_eq!(app.cloud.sandbox.conversations().len(), 3);
}

async fn a_token_that_is_not_the_channels_is_refused(engine: Engine) {
    let app = with_tokens(engine).await;

    for (secret, claims) in [
        (OTHER_SECRET, json!({"iss": "sms"})),
        // This channel has a key and no tokens.
        (SECRET, json!({"iss": "app"})),
        (SECRET, json!({"iss": "nobody"})),
        (SECRET, json!({"sub": "sms"})),
    ] {
        let reply = with_token(&app, secret, claims).get("/v1/events").await;

        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        let problem = reply.expect_problem(401, "unauthorized");
        assert_eq!(problem["detail"], UNKNOWN_CREDENTIAL);
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_correctly_signed_but_invalid_token_gets_a_reason(engine: Engine) {
    let app = with_tokens(engine).await;
    let now = app.cloud.clock.now();
    let in_two_minutes = (now + TimeDelta::minutes(2)).timestamp();
    let in_two_years = (now + TimeDelta::days(2 * 366)).timestamp();
    let no_user = "The token's user is not a user id: expected a string of 1 to 256 bytes without control characters and other than . and .., or no user.";
    let too_long = "The token's exp is more than a year ahead. It must be in seconds; this value may be in milliseconds.";
    let no_time = "The token's exp and nbf must be numbers: seconds since 1970.";
    let not_yet_valid =
        "The token is not valid yet: its nbf, in seconds since 1970, is in the future.";

    for (claims, expected) in [
        (json!({}), "The token has no exp."),
        (json!({"exp": "never"}), no_time),
        (json!({"exp": null}), no_time),
        (json!({"exp": in_two_minutes, "nbf": "now"}), no_time),
        (json!({"exp": 1_700_000_000}), "The token has expired."),
        (json!({"exp": in_two_years}), too_long),
        // An hour ago, in milliseconds.
        (
            json!({"exp": (now - TimeDelta::hours(1)).timestamp_millis()}),
            too_long,
        ),
        (
            json!({"exp": in_two_minutes, "nbf": in_two_minutes}),
            not_yet_valid,
        ),
        (json!({"exp": in_two_minutes, "user": "a\u{0}"}), no_user),
        (json!({"exp": in_two_minutes, "user": "."}), no_user),
        (json!({"exp": in_two_minutes, "user": ".."}), no_user),
        (json!({"exp": in_two_minutes, "user": ""}), no_user),
        (json!({"exp": in_two_minutes, "user": null}), no_user),
        (json!({"exp": in_two_minutes, "user": 5}), no_user),
    ] {
        let mut claims = claims;
        claims["iss"] = "sms".into();
        // The first or the second of the channel's keys, and a key that the channel does not have.
        for (secret, expected) in [
            (SECRET, expected),
            (FORMER_SECRET, expected),
            (OTHER_SECRET, UNKNOWN_CREDENTIAL),
        ] {
            let token = app.sms.with_key(&hs256(secret, &claims));

            let problem = token.get("/v1/events").await;

            let problem = problem.expect_problem(401, "unauthorized");
            assert_eq!(problem["detail"], expected, "{claims}");
        }
    }
    let critical = Header {
        crit: Some(vec!["x-bind".to_owned()]),
        ..Header::new(Algorithm::HS256)
    };
    let claims = json!({"iss": "sms", "exp": in_two_minutes});
    for (secret, expected) in [
        (
            SECRET,
            "The token's header has crit, but no extensions are supported.",
        ),
        (OTHER_SECRET, UNKNOWN_CREDENTIAL),
    ] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&critical, &claims, &key).unwrap();
        let refused = app.sms.with_key(&token).get("/v1/users/ada").await;
        let problem = refused.expect_problem(401, "unauthorized");
        assert_eq!(problem["detail"], expected);
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

/// Queues a message of a user, and returns its path.
async fn queue_text(channel: &Channel, user: &str) -> String {
    let request = channel
        .request(Method::POST, &format!("/v1/users/{user}/messages"))
        .header("prefer", "respond-async")
        .header("content-type", "application/json")
        .body(r#"{"text": "later"}"#);
    let queued = send(request).await;
    queued.headers["location"].to_str().unwrap().to_owned()
}

async fn a_token_for_one_user_opens_only_that_users_paths(engine: Engine) {
    let app = with_tokens(engine).await;
    let ada = with_token(&app, SECRET, json!({"iss": "sms", "user": "ada/1"}));
    app.sms.say("bob", "of bob").await.expect(201);
    let of_bob = queue_text(&app.sms, "bob").await;

    ada.say("ada%2F1", "hello").await.expect(201);
    ada.get("/v1/users/ada%2F1").await.expect(200);
    let of_ada = queue_text(&ada, "ada%2F1").await;
    ada.get(&of_ada).await.expect(200);

    ada.get(&of_bob)
        .await
        .expect_problem(404, "message-not-found");
    for path in [
        "/v1/users/bob",
        "/v1/users/ada",
        "/v1/users/ADA%2F1/conversation",
        "/v1/users/%00",
        "/v1/deliveries?state=failed",
        "/v1/events/evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
    ] {
        ada.get(path).await.expect_problem(403, "forbidden");
    }
    ada.say("bob", "as bob")
        .await
        .expect_problem(403, "forbidden");
    let test = ada.post("/v1/events/test", json!({"type": "message.created"}));
    test.await.expect_problem(403, "forbidden");
    ada.get("/v1/nothing")
        .await
        .expect_problem(404, "not-found");
}

async fn a_token_for_one_user_shows_only_that_users_events(engine: Engine) {
    let app = with_tokens(engine).await;
    app.subscribe_to_the_cloud();
    let ada = with_token(&app, SECRET, json!({"iss": "sms", "user": "ada"}));
    let unknown_user = with_token(&app, SECRET, json!({"iss": "sms", "user": "nobody"}));
    for user in ["ada", "bob"] {
        let sent = app.sms.say(user, "hello").await.expect(201);
        let id = sent["conversation_id"].as_str().unwrap();
        let action = serde_json::from_value(json!({"type": "text", "text": user})).unwrap();
        app.cloud.sandbox.act(id, action).unwrap();
    }
    eventually("all events are logged", async || {
        let logged_events = app.event_log("sms").await;
        let replies = logged_events
            .iter()
            .filter(|event| event["type"] == "message.created");
        (replies.count() == 2).then_some(())
    })
    .await;

    let page = ada.get("/v1/events?wait=5").await.expect(200);
    let events = page["events"].as_array().unwrap();
    assert!(events.len() >= 2);
    assert!(events.iter().all(|event| event["user_id"] == "ada"));
    let next = page["next"].as_str().unwrap();
    let next_page = ada
        .get(&format!("/v1/events?after={next}"))
        .await
        .expect(200);
    assert_eq!(next_page["events"], json!([]));
    assert_eq!(next_page.get("gap"), None);
    let none = unknown_user.get("/v1/events").await.expect(200);
    assert_eq!(none["events"], json!([]));
    // The channel itself sees all events.
    let all = app.sms.get("/v1/events").await.expect(200);
    assert!(all["events"].as_array().unwrap().len() > events.len());
}

fn header<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply
        .headers
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

async fn requests_over_the_channels_rate_limit_are_refused_with_429(engine: Engine) {
    let app = start(engine, "limits = {requests_per_second = 1}").await;

    // Both requests have to arrive within the same second; a slow machine may need several
    // attempts.
    let (allowed, refused) = eventually("a request above the limit", async || {
        let first = app.sms.get("/v1/users/ada").await;
        let second = app.sms.get("/v1/users/bob").await;
        (second.status == 429).then_some((first, second))
    })
    .await;

    assert_eq!(header(&refused, "retry-after"), "1");
    assert_eq!(header(&refused, "ratelimit"), "\"channel\";r=0;t=1");
    assert_eq!(header(&refused, "ratelimit-policy"), "\"channel\";q=1;w=1");
    let problem = refused.expect_problem(429, "too-many-requests");
    assert_eq!(problem["retryable"], true);
    if allowed.status == 404 {
        assert_eq!(header(&allowed, "ratelimit"), "\"channel\";r=0;t=1");
        assert_eq!(header(&allowed, "ratelimit-policy"), "\"channel\";q=1;w=1");
    }
    eventually("a moment later", async || {
        let reply = app.sms.get("/v1/users/ada").await;
        (reply.status == 404).then_some(())
    })
    .await;
    // Requests of other channels are not counted.
    let app_channel = app.sms.with_key(crate::support::configuration::APP_KEY);
    for _ in 0..5 {
        let reply = app_channel.get("/v1/users/ada").await;
        assert_eq!(header(&reply, "ratelimit-policy"), "");
        reply.expect_problem(404, "user-not-found");
    }
}

async fn a_rate_limit_per_user_does_not_affect_other_users(engine: Engine) {
    let app = start(engine, "limits = {per_user_requests_per_second = 1}").await;

    let refused = eventually("a request above the limit", async || {
        app.sms.get("/v1/users/ada").await;
        let second = app.sms.get("/v1/users/ada").await;
        (second.status == 429).then_some(second)
    })
    .await;
    let other = app.sms.get("/v1/users/bob").await;

    assert_eq!(header(&refused, "ratelimit"), "\"user\";r=0;t=1");
    refused.expect_problem(429, "too-many-requests");
    other.expect_problem(404, "user-not-found");
    // Requests that are not about a user are not counted.
    for _ in 0..5 {
        app.sms.get("/v1/events").await.expect(200);
    }
}

async fn cors_allows_only_a_token_for_one_user(engine: Engine) {
    let app = with_tokens(engine).await;
    let ada = with_token(&app, SECRET, json!({"iss": "sms", "user": "ada"}));
    let for_all_users = with_token(&app, SECRET, json!({"iss": "sms"}));
    let allowed = async |channel: &Channel, method: Method, origin: &str| {
        let request = channel
            .request(method, "/v1/users/ada")
            .header("origin", origin);
        let request = request.header("access-control-request-method", "PUT");
        let reply = send(request).await;
        header(&reply, "access-control-allow-origin").to_owned()
    };

    assert_eq!(allowed(&ada, Method::OPTIONS, ORIGIN).await, ORIGIN);
    assert_eq!(allowed(&ada, Method::GET, ORIGIN).await, ORIGIN);
    let other = "https://evil.example.com";
    assert_eq!(allowed(&ada, Method::OPTIONS, other).await, "");
    assert_eq!(allowed(&ada, Method::GET, other).await, "");
    // A key, or a token for all users, must not be used in a web page.
    assert_eq!(allowed(&for_all_users, Method::GET, ORIGIN).await, "");
    assert_eq!(allowed(&app.sms, Method::GET, ORIGIN).await, "");
    let refused = ada.get("/v1/users/bob").await;
    refused.expect_problem(403, "forbidden");
}
