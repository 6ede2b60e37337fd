use tokio::task::JoinSet;
use wiremock::matchers::{body_json, header};

use super::*;
use crate::clock::Clock as _;

async fn check(cloud: &Cloud) -> Result<(), Error> {
    cloud
        .client
        .check_credentials(&cloud.account, &cloud.trace)
        .await
}

/// Returns the number of requests for an `AppJWT`.
async fn issued(cloud: &Cloud) -> usize {
    cloud.requests_to(APP_TOKEN).await.len()
}

#[tokio::test]
async fn the_secret_goes_in_the_form_and_never_in_the_url() {
    let cloud = Cloud::ready().await;

    check(&cloud).await.unwrap();

    let requests = cloud.requests_to(APP_TOKEN).await;
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    let form: Vec<_> = url::form_urlencoded::parse(&request.body).collect();
    assert_eq!(
        form,
        [
            ("v".into(), "1.0".into()),
            ("grant_type".into(), "client_credentials".into()),
            ("client_id".into(), "app".into()),
            ("client_secret".into(), SECRET.into()),
        ]
    );
    assert_eq!(request.url.query(), Some("v=1.0"));
    assert_eq!(
        request.headers["content-type"],
        "application/x-www-form-urlencoded"
    );
}

#[tokio::test]
async fn the_app_jwt_is_sent_raw_without_bearer() {
    let cloud = Cloud::ready().await;
    posted(SEND)
        .and(header("authorization", cloud.app_token(1).as_str()))
        .and(header("x-lp-on-behalf", CONSUMER_TOKEN))
        .respond_with(envelope(200, "OK", json!({"sequence": 0})))
        .mount(&cloud.server)
        .await;

    assert_eq!(cloud.publish().await.unwrap(), 0);
}

#[tokio::test]
async fn fifty_concurrent_callers_request_one_app_jwt() {
    let cloud = Arc::new(Cloud::silent().await);
    cloud.mock_domains().await;
    app_token()
        .respond_with(
            ok(json!({"access_token": cloud.app_token(1)})).set_delay(Duration::from_millis(50)),
        )
        .expect(1)
        .mount(&cloud.server)
        .await;
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 0})))
        .await;
    let mut callers = JoinSet::new();

    for _ in 0..50 {
        let cloud = Arc::clone(&cloud);
        callers.spawn(async move { cloud.publish().await });
    }

    assert!(callers.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn an_app_jwt_is_renewed_exactly_five_minutes_before_it_expires() {
    let cloud = Cloud::ready().await;
    check(&cloud).await.unwrap();

    cloud
        .clock
        .advance(chrono::Duration::milliseconds(55 * 60 * 1000 - 1));
    check(&cloud).await.unwrap();
    assert_eq!(issued(&cloud).await, 1);
    cloud.clock.advance(chrono::Duration::milliseconds(1));
    cloud.mock_token(2).await;
    check(&cloud).await.unwrap();
    assert_eq!(issued(&cloud).await, 2);
    check(&cloud).await.unwrap();
    assert_eq!(issued(&cloud).await, 2);
}

#[tokio::test]
async fn the_lifetime_of_an_app_jwt_starts_at_its_request() {
    for skew in [-7200, 0, 7200] {
        let cloud = Cloud::silent().await;
        cloud.mock_domains().await;
        let iat = cloud.clock.now().timestamp() + skew;
        let token = jwt(&json!({"iat": iat, "exp": iat + 3600}));
        cloud
            .on(APP_TOKEN, ok(json!({"access_token": token})))
            .await;

        check(&cloud).await.unwrap();
        cloud.clock.advance(chrono::Duration::minutes(54));
        check(&cloud).await.unwrap();
        assert_eq!(issued(&cloud).await, 1, "{skew}");
        cloud.clock.advance(chrono::Duration::minutes(1));
        check(&cloud).await.unwrap();
        assert_eq!(issued(&cloud).await, 2, "{skew}");
    }
}

#[tokio::test]
async fn a_short_lived_app_jwt_is_renewed_after_half_its_time() {
    let cloud = Cloud::silent().await;
    cloud.mock_domains().await;
    let iat = cloud.clock.now().timestamp();
    let token = jwt(&json!({"iat": iat, "exp": iat + 120}));
    cloud
        .on(APP_TOKEN, ok(json!({"access_token": token})))
        .await;

    for (wait, expected) in [(0, 1), (59, 1), (1, 2)] {
        cloud.clock.advance(chrono::Duration::seconds(wait));
        check(&cloud).await.unwrap();
        assert_eq!(issued(&cloud).await, expected, "{wait}");
    }
}

#[tokio::test]
async fn after_a_failed_renewal_the_app_jwt_is_used_until_it_expires() {
    let cloud = Cloud::ready().await;
    cloud.on(APP_TOKEN, ResponseTemplate::new(503)).await;
    check(&cloud).await.unwrap();

    cloud.clock.advance(chrono::Duration::minutes(56));
    check(&cloud).await.unwrap();
    check(&cloud).await.unwrap();
    assert_eq!(issued(&cloud).await, 2, "one early attempt, then a pause");
    cloud.clock.advance(chrono::Duration::minutes(4));
    let error = check(&cloud).await.unwrap_err();

    assert!(error.is_transient(), "{error:?}");
    // After three failures in a row, the circuit breaker of Sentinel opens.
    assert_eq!(issued(&cloud).await, 4);
}

#[tokio::test]
async fn wrong_credentials_are_distinguished_from_transient_errors() {
    let page = "<html>no</html>";
    let invalid = r#"{"error":"invalid_client"}"#;
    for (status, body, refused) in [
        (400, invalid, true),
        (401, invalid, true),
        (401, "", true),
        (400, page, false),
        (403, page, false),
        (403, "", false),
        (404, "", false),
        (302, "", false),
        (429, page, false),
        (500, page, false),
    ] {
        let cloud = Cloud::silent().await;
        cloud.mock_domains().await;
        let answer = ResponseTemplate::new(status).set_body_string(body);
        cloud.on(APP_TOKEN, answer).await;

        let error = cloud.publish().await.unwrap_err();

        assert_eq!(
            matches!(error, Error::CredentialsRefused { .. }),
            refused,
            "{status} {body}: {error:?}"
        );
        assert_eq!(error.is_transient(), !refused, "{status} {body}: {error:?}");
        assert!(!error.outcome_unknown(), "{status}");
    }
}

#[tokio::test]
async fn an_unreadable_lifetime_of_an_app_jwt_defaults_to_an_hour() {
    let now = Cloud::silent().await.clock.now().timestamp();
    let hour = 3600 * 1000;
    for (token, expires_in, lifetime_ms) in [
        (
            jwt(&json!({"iat": now, "exp": now + 600})),
            Value::Null,
            600_000,
        ),
        (
            jwt(&json!({"iat": now, "exp": format!("{}", now + 600)})),
            Value::Null,
            600_000,
        ),
        (
            jwt(&json!({"iat": 1.5, "exp": 601.5})),
            Value::Null,
            600_000,
        ),
        (jwt(&json!({"exp": now + 600})), json!(60), 600_000),
        (jwt(&json!({})), json!(60), 60_000),
        (jwt(&json!({})), json!("60"), 60_000),
        ("opaque".to_owned(), json!(60), 60_000),
        ("opaque".to_owned(), Value::Null, hour),
        ("a.b.c".to_owned(), json!("soon"), hour),
        (jwt(&json!({})), json!(-1), hour),
        (jwt(&json!({"iat": now, "exp": now})), Value::Null, hour),
        (
            jwt(&json!({"iat": i64::MIN, "exp": i64::MAX})),
            Value::Null,
            hour,
        ),
        (jwt(&json!({"exp": null})), Value::Null, hour),
    ] {
        let cloud = Cloud::silent().await;
        cloud.mock_domains().await;
        let answer = json!({"access_token": format!("{token}\n"), "expires_in": expires_in});
        cloud.on(APP_TOKEN, ok(&answer)).await;

        check(&cloud).await.unwrap();

        let health = cloud.client.health();
        let times = health[0].app_token.unwrap();
        let lifetime = times.expires_at - times.obtained_at;
        assert_eq!(lifetime.num_milliseconds(), lifetime_ms, "{answer}");
    }
}

#[tokio::test]
async fn white_space_around_tokens_is_removed() {
    let cloud = Cloud::silent().await;
    cloud.mock_domains().await;
    let token = format!(" {}\r\n", cloud.app_token(1));
    cloud
        .on(APP_TOKEN, ok(json!({"access_token": token})))
        .await;
    let consumer = jwt(&json!({"lp_consumer_id": "CONS"}));
    cloud
        .on(CONSUMER, ok(json!({"token": format!("{consumer}\n")})))
        .await;

    let response = cloud.consumer_token().await.unwrap();

    assert_eq!(response.token.expose(), consumer.as_bytes());
    let requests = cloud.requests_to(CONSUMER).await;
    let sent = requests[0].headers["authorization"].to_str().unwrap();
    assert_eq!(sent, cloud.app_token(1));
}

#[tokio::test]
async fn an_empty_app_jwt_is_not_accepted() {
    let cloud = Cloud::silent().await;
    cloud.mock_domains().await;
    cloud
        .on(APP_TOKEN, ok(json!({"access_token": " \n"})))
        .await;

    let error = check(&cloud).await.unwrap_err();

    assert!(matches!(error, Error::NotAttempted(_)), "{error:?}");
}

#[tokio::test]
async fn a_gateway_response_before_idp_does_not_refuse_a_consumer() {
    for status in [302, 403, 404] {
        let cloud = Cloud::ready().await;
        cloud.on(CONSUMER, ResponseTemplate::new(status)).await;

        let error = cloud.consumer_token().await.unwrap_err();

        assert!(
            matches!(error, Error::Blocked { status: of } if of == status),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_expired_app_jwt_is_replaced_and_the_message_resent() {
    let cloud = Cloud::ready().await;
    cloud.mock_token(2).await;
    posted(SEND)
        .and(header("authorization", cloud.app_token(1).as_str()))
        .respond_with(token_refused(40102))
        .expect(1)
        .mount(&cloud.server)
        .await;
    posted(SEND)
        .and(header("authorization", cloud.app_token(2).as_str()))
        .respond_with(envelope(200, "OK", json!({"sequence": 5})))
        .expect(2)
        .mount(&cloud.server)
        .await;

    assert_eq!(cloud.publish().await.unwrap(), 5);
    assert_eq!(cloud.publish().await.unwrap(), 5);
}

#[tokio::test]
async fn an_app_jwt_that_is_refused_twice_is_an_error() {
    let cloud = Cloud::ready().await;
    cloud.mock_token(2).await;
    cloud.on(SEND, token_refused(40102)).await;

    let error = cloud.publish().await.unwrap_err();

    assert!(matches!(error, Error::AppTokenRefused), "{error:?}");
    assert_eq!(cloud.requests_to(SEND).await.len(), 2);
}

#[tokio::test]
async fn fifty_callers_whose_app_jwt_is_refused_share_the_next_one() {
    let cloud = Arc::new(Cloud::ready().await);
    cloud.mock_token(2).await;
    posted(SEND)
        .and(header("authorization", cloud.app_token(1).as_str()))
        .respond_with(token_refused(40102).set_delay(Duration::from_millis(20)))
        .mount(&cloud.server)
        .await;
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 0})))
        .await;
    check(&cloud).await.unwrap();
    let mut callers = JoinSet::new();

    for _ in 0..50 {
        let cloud = Arc::clone(&cloud);
        callers.spawn(async move { cloud.publish().await });
    }

    assert!(callers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(issued(&cloud).await, 2);
}

#[tokio::test]
async fn a_consumer_jws_names_the_consumer() {
    let cloud = Cloud::ready().await;
    let token = jwt(
        &json!({"account_id": ACCOUNT, "ext_consumer_id": EXTERNAL_ID, "lp_consumer_id": "CONS"}),
    );
    posted(CONSUMER)
        .and(query_param("v", "1.0"))
        .and(header("authorization", cloud.app_token(1).as_str()))
        .and(header("content-type", "application/json"))
        .and(body_json(json!({"ext_consumer_id": EXTERNAL_ID})))
        .respond_with(ResponseTemplate::new(201).set_body_json(json!({"token": token})))
        .mount(&cloud.server)
        .await;

    let answered = cloud.consumer_token().await.unwrap();

    assert_eq!(answered.consumer_id, "CONS");
    assert_eq!(answered.token.expose(), token.as_bytes());
}

#[test]
fn a_consumer_jws_that_no_header_can_carry_is_refused() {
    assert!(consumer_jws("a\nb").is_none());
}

#[test]
fn debugging_a_consumer_jws_does_not_show_it() {
    let token = consumer_jws(CONSUMER_TOKEN).unwrap();

    assert!(!format!("{token:?}").contains(CONSUMER_TOKEN));
}

#[tokio::test]
async fn a_401_from_idp_without_a_code_renews_the_app_jwt() {
    let cloud = Cloud::ready().await;
    cloud.mock_token(2).await;
    posted(CONSUMER)
        .respond_with(ResponseTemplate::new(401))
        .up_to_n_times(1)
        .mount(&cloud.server)
        .await;
    let token = jwt(&json!({"lp_consumer_id": "CONS"}));
    cloud.on(CONSUMER, ok(json!({"token": token}))).await;

    assert_eq!(cloud.consumer_token().await.unwrap().consumer_id, "CONS");
    assert_eq!(issued(&cloud).await, 2);
}

#[tokio::test]
async fn a_transient_error_of_idp_is_retried() {
    let cloud = Cloud::ready().await;
    posted(CONSUMER)
        .respond_with(
            ResponseTemplate::new(500).set_body_json(json!({"internalErrorCode": "9007"})),
        )
        .up_to_n_times(2)
        .mount(&cloud.server)
        .await;
    let token = jwt(&json!({"lp_consumer_id": "CONS"}));
    cloud.on(CONSUMER, ok(json!({"token": token}))).await;

    assert!(cloud.consumer_token().await.is_ok());
}

#[tokio::test]
async fn a_token_timeout_leaves_no_outcome_unknown() {
    let cloud = Cloud::with_limits(Limits {
        token: Duration::from_millis(20),
        pause: Duration::from_millis(1),
        ..Limits::default()
    })
    .await;
    cloud.mock_domains().await;
    cloud
        .on(
            APP_TOKEN,
            ResponseTemplate::new(200).set_delay(Duration::from_secs(10)),
        )
        .await;

    let error = cloud.publish().await.unwrap_err();

    assert!(matches!(error, Error::NotAttempted(_)), "{error:?}");
    assert!(error.is_transient() && !error.outcome_unknown());
}
