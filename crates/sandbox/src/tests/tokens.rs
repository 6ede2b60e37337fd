//! Sentinel, IDP, and the two headers of the Send API.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::*;
use crate::Credentials;

const TOKEN: &str = "/sentinel/api/account/le12345678/app/token";
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const PAIR: &str = "client_id=app&client_secret=s3cret";
const GRANT: &str = "grant_type=client_credentials";

type Headers<'a> = &'a [(&'a str, &'a str)];

/// Returns one part of a token: 0 is the header, 1 the claims.
fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn one_account() -> Options {
    Options {
        accounts: vec![Credentials {
            account_id: ACCOUNT.to_owned(),
            client_id: "app".to_owned(),
            client_secret: "s3cret".into(),
        }],
        ..Options::default()
    }
}

fn error(code: u16, title: &str, details: &str, error_code: u32) -> Value {
    json!({
        "kind": "resp",
        "code": code,
        "body": {"title": title, "details": details, "errorCode": error_code},
        "type": ".ReqBody$ErrorResp",
    })
}

/// Calls SEND with these headers and a valid body.
async fn send_with_tokens(
    cloud: &Cloud,
    authorization: Option<&str>,
    on_behalf: Option<&str>,
) -> Answer {
    let uri = format!("/api/account/{ACCOUNT}/messaging/consumer/conversation/send?v=3");
    let mut headers = vec![JSON];
    headers.extend(authorization.map(|token| ("authorization", token)));
    headers.extend(on_behalf.map(|token| ("x-lp-on-behalf", token)));
    let request =
        json!({"kind": "req", "id": "1", "type": "userprofile.SetUserProfile", "body": {}});
    cloud
        .call("POST", &uri, &headers, request.to_string())
        .await
}

#[tokio::test]
async fn sentinel_accepts_its_parameters_in_query_body_or_both() {
    let cloud = Cloud::with(one_account());

    let cases = [
        (format!("{TOKEN}?v=1.0&{GRANT}"), PAIR.to_owned()),
        (format!("{TOKEN}?v=1.0"), format!("{GRANT}&{PAIR}")),
        (format!("{TOKEN}?v=1.0&{GRANT}&{PAIR}"), String::new()),
    ];
    for (uri, body) in cases {
        let answer = cloud.call("POST", &uri, &[FORM], body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        assert_eq!(answer.body["token_type"], "Bearer");
        assert!(answer.body.get("expires_in").is_none());
    }
}

#[tokio::test]
async fn an_app_token_has_the_documented_claims() {
    let token = Cloud::new().app_token().await;

    assert_eq!(part(&token, 0)["alg"], "RS256");
    assert_eq!(part(&token, 0)["typ"], "JWT");
    assert!(part(&token, 0)["kid"].is_string());
    let claims = json!({
        "aud": ACCOUNT, "azp": "app", "scope": "msg.consumer", "iss": "Sentinel",
        "iat": 1_800_000_000, "exp": 1_800_003_600,
    });
    assert_eq!(part(&token, 1), claims);
}

#[tokio::test]
async fn sentinel_refuses_requests_without_a_valid_client_credentials_grant() {
    let cloud = Cloud::with(one_account());

    let cases = [
        ("", FORM, format!("{GRANT}&{PAIR}"), 400, "v=1.0"),
        (
            "?v=1.0",
            JSON,
            format!("{GRANT}&{PAIR}"),
            415,
            "x-www-form-urlencoded",
        ),
        (
            "?v=1.0",
            FORM,
            format!("grant_type=password&{PAIR}"),
            400,
            "grant_type",
        ),
        (
            "?v=1.0",
            FORM,
            format!("{GRANT}&client_id=app"),
            400,
            "client_secret",
        ),
        (
            "?v=1.0",
            FORM,
            format!("{GRANT}&client_id=app&client_secret=no"),
            401,
            "client_secret",
        ),
        (
            "?v=1.0",
            FORM,
            format!("{GRANT}&client_id=no&client_secret=s3cret"),
            401,
            "no client `no`",
        ),
    ];
    for (query, content_type, body, status, complaint) in cases {
        let uri = format!("{TOKEN}{query}");
        let answer = cloud.call("POST", &uri, &[content_type], body).await;
        assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
        let description = answer.body["error_description"].as_str().unwrap();
        assert!(description.contains(complaint), "{description}");
    }
}

#[tokio::test]
async fn the_same_external_id_always_yields_the_same_consumer() {
    let cloud = Cloud::new();
    let app = cloud.app_token().await;

    let first = cloud.consumer_token(&app, "u-1").await;
    let again = cloud.consumer_token(&app, "u-1").await;
    let other = cloud.consumer_token(&app, "u-2").await;

    assert_eq!(first.status, StatusCode::CREATED);
    let claims = |answer: &Answer| part(answer.body["token"].as_str().unwrap(), 1);
    let id = claims(&first)["lp_consumer_id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 64);
    assert!(id.chars().all(|c| c.is_ascii_hexdigit()));
    let expected = json!({"account_id": ACCOUNT, "ext_consumer_id": "u-1", "lp_consumer_id": id});
    assert_eq!(claims(&first), expected);
    assert_eq!(claims(&again), expected);
    assert_ne!(claims(&other)["lp_consumer_id"], id.as_str());
}

#[tokio::test]
async fn idp_refuses_invalid_consumer_requests() {
    let cloud = Cloud::new();
    let app = cloud.app_token().await;
    let app = ("authorization", app.as_str());

    let good = r#"{"ext_consumer_id": "u-1"}"#;
    let cases: [(&str, Headers<'_>, &str, u16, &str); 7] = [
        ("?v=2.0", &[JSON, app], good, 400, "v=1.0"),
        (
            "",
            &[JSON],
            good,
            401,
            "AUTHORIZATION header is not present",
        ),
        ("", &[app], good, 415, "application/json"),
        (
            "",
            &[JSON, app],
            "ext_consumer_id=u-1",
            400,
            "expected JSON",
        ),
        (
            "",
            &[JSON, app],
            r#"{"ext_consumer_id": 1}"#,
            400,
            "ext_consumer_id: invalid type",
        ),
        (
            "",
            &[JSON, app],
            r#"{"ext_consumer_id": ""}"#,
            400,
            "not empty",
        ),
        (
            "",
            &[JSON, app],
            r#"{"extConsumerId": "u-1"}"#,
            400,
            "unknown field `extConsumerId`",
        ),
    ];
    for (query, headers, body, status, complaint) in cases {
        let uri = format!("/api/account/{ACCOUNT}/consumer{query}");
        let answer = cloud.call("POST", &uri, headers, body.to_owned()).await;
        answer.assert_complaint(status, complaint);
    }
    let uri = format!("/api/account/{ACCOUNT}/consumer");
    let answer = cloud.call("POST", &uri, &[JSON, app], good).await;
    assert_eq!(
        answer.status,
        StatusCode::CREATED,
        "the version may be left out"
    );
}

#[tokio::test]
async fn a_missing_token_is_reported_in_the_clouds_error_format() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;

    let no_app = send_with_tokens(&cloud, None, Some(&tokens.consumer)).await;
    let no_consumer = send_with_tokens(&cloud, Some(&tokens.app), None).await;

    no_app.assert(
        401,
        error(
            401,
            "AppJWT is missing",
            "AUTHORIZATION header is not present: expected `Authorization: <AppJWT>`",
            40105,
        ),
    );
    no_consumer.assert(
        401,
        error(
            401,
            "ConsumerJWS is missing",
            "X_ON_BEHALF_HEADER is not present: expected `X-LP-ON-BEHALF: <ConsumerJWS>`",
            40104,
        ),
    );
}

#[tokio::test]
async fn an_app_token_lasts_an_hour_and_a_consumer_token_for_ever() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;

    cloud.advance(3599);
    let in_time = send_with_tokens(&cloud, Some(&tokens.app), Some(&tokens.consumer)).await;
    cloud.advance(1);
    let late = send_with_tokens(&cloud, Some(&tokens.app), Some(&tokens.consumer)).await;
    let renewed = cloud.app_token().await;
    let after = send_with_tokens(&cloud, Some(&renewed), Some(&tokens.consumer)).await;

    assert_eq!(in_time.status, StatusCode::OK);
    assert_eq!(late.body["body"]["errorCode"], 40102);
    late.assert_complaint(
        401,
        "AppJWT has expired or is invalid: it expired at 1800003600",
    );
    assert_eq!(after.status, StatusCode::OK);
}

#[tokio::test]
async fn a_bearer_prefix_is_refused_with_its_reason() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;

    let answer = send_with_tokens(
        &cloud,
        Some(&format!("Bearer {}", tokens.app)),
        Some(&tokens.consumer),
    )
    .await;

    assert_eq!(answer.body["body"]["errorCode"], 40102);
    answer.assert_complaint(401, "has the prefix `Bearer `");
}

#[tokio::test]
async fn a_token_of_another_issuer_kind_or_account_is_invalid() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let foreign = Cloud::new().tokens("u-1").await;
    let uri = format!("{}?v=1.0&{GRANT}&{PAIR}", TOKEN.replace(ACCOUNT, "other"));
    let other_app = cloud.call("POST", &uri, &[], "").await.body["access_token"].clone();
    let other_app = other_app.as_str().unwrap();
    let uri = "/api/account/other/consumer";
    let headers = [JSON, ("authorization", other_app)];
    let answer = cloud
        .call("POST", uri, &headers, r#"{"ext_consumer_id": "u-1"}"#)
        .await;
    let other_consumer = answer.body["token"].as_str().unwrap();

    let cases = [
        (
            foreign.app.as_str(),
            tokens.consumer.as_str(),
            40102,
            "InvalidSignature",
        ),
        (&tokens.consumer, &tokens.consumer, 40102, "kid"),
        (other_app, &tokens.consumer, 40102, "its aud is `other`"),
        ("nonsense", &tokens.consumer, 40102, "InvalidToken"),
        (&tokens.app, &foreign.consumer, 40103, "InvalidSignature"),
        (&tokens.app, &tokens.app, 40103, "kid"),
        (
            &tokens.app,
            other_consumer,
            40103,
            "its account_id is `other`",
        ),
    ];
    for (app, consumer, error_code, complaint) in cases {
        let answer = send_with_tokens(&cloud, Some(app), Some(consumer)).await;
        assert_eq!(answer.body["body"]["errorCode"], error_code);
        answer.assert_complaint(401, complaint);
        assert!(!answer.complaint().contains(app));
    }
}

#[tokio::test]
async fn revoked_tokens_are_refused_and_new_ones_are_accepted() {
    let cloud = Cloud::new();
    let old = cloud.tokens("u-1").await;

    cloud.sandbox.revoke_app_tokens();
    let app_revoked = send_with_tokens(&cloud, Some(&old.app), Some(&old.consumer)).await;
    let app = cloud.app_token().await;
    let app_renewed = send_with_tokens(&cloud, Some(&app), Some(&old.consumer)).await;
    cloud.sandbox.revoke_consumer_tokens();
    let consumer_revoked = send_with_tokens(&cloud, Some(&app), Some(&old.consumer)).await;
    let new = cloud.tokens("u-1").await;
    let consumer_renewed = send_with_tokens(&cloud, Some(&app), Some(&new.consumer)).await;

    assert_eq!(app_revoked.body["body"]["errorCode"], 40102);
    assert_eq!(app_renewed.status, StatusCode::OK);
    assert_eq!(consumer_revoked.body["body"]["errorCode"], 40103);
    assert_eq!(consumer_renewed.status, StatusCode::OK);
    let id = |tokens: &Tokens| part(&tokens.consumer, 1)["lp_consumer_id"].clone();
    assert_eq!(id(&old), id(&new));
}
