use super::*;

async fn find(cloud: &Cloud) -> Result<String, Error> {
    let domain = cloud
        .client
        .find_domain(&cloud.account, Service::Messaging, &cloud.trace);
    domain.await.map(|url| url.to_string())
}

async fn lookups(cloud: &Cloud) -> usize {
    let path = "/api/account/12345678/service/asyncMessagingEnt/baseURI.json";
    cloud.requests_to(path).await.len()
}

#[tokio::test]
async fn a_domain_lookup_reads_the_exact_service_from_object_or_array() {
    let array = json!({"baseURIs": [
        {"service": "asyncmessagingent", "account": ACCOUNT, "baseURI": "wrong.example"},
        {"service": "asyncMessagingEnt", "account": ACCOUNT, "baseURI": "va.msg.example"}]});
    let flat = json!({"service": "asyncMessagingEnt", "account": ACCOUNT, "baseURI": "va.msg.example", "new": [1]});

    for body in [array, flat] {
        let cloud = Cloud::silent().await;
        domain_of(Service::Messaging)
            .respond_with(ok(&body))
            .mount(&cloud.server)
            .await;

        assert_eq!(
            find(&cloud).await.unwrap(),
            "https://va.msg.example/",
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_base_uri_with_a_scheme_is_used_unchanged() {
    let cloud = Cloud::silent().await;
    cloud
        .mock_domain(Service::Messaging, "http://127.0.0.1:9400/cloud")
        .await;

    assert_eq!(find(&cloud).await.unwrap(), "http://127.0.0.1:9400/cloud");
}

#[tokio::test]
async fn a_base_uri_may_have_a_path() {
    let cloud = Cloud::silent().await;
    for service in Service::ALL {
        let base = format!("{}/cloud/", cloud.server.uri());
        cloud.mock_domain(service, &base).await;
    }
    posted(&format!("/cloud{APP_TOKEN}"))
        .respond_with(ok(json!({"access_token": cloud.app_token(1)})))
        .expect(1)
        .mount(&cloud.server)
        .await;

    let checked = cloud.client.check_credentials(&cloud.account, &cloud.trace);

    checked.await.unwrap();
}

#[tokio::test]
async fn a_domain_lookup_without_a_usable_service_is_a_transient_error() {
    for answer in [
        ok(json!({"baseURIs": []})),
        ok(json!({"service": "idp", "baseURI": "idp.example"})),
        ok(json!({"service": "asyncMessagingEnt", "baseURI": "ftp://msg.example"})),
        ok(json!({"service": "asyncMessagingEnt", "baseURI": ""})),
        ResponseTemplate::new(200).set_body_string("<html>Welcome</html>"),
    ] {
        let cloud = Cloud::silent().await;
        domain_of(Service::Messaging)
            .respond_with(answer)
            .mount(&cloud.server)
            .await;

        let error = find(&cloud).await.unwrap_err();

        assert!(
            error.is_transient() && !error.outcome_unknown(),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn an_error_of_the_domain_api_never_refuses_a_message() {
    for (status, body) in [
        (302, ""),
        (400, ""),
        (401, ""),
        (401, r#"{"error":"bad authentication"}"#),
        (404, ""),
        (404, r#"{"code":"NOT_FOUND","body":{}}"#),
        (403, "<html>"),
    ] {
        let cloud = Cloud::silent().await;
        let answer = ResponseTemplate::new(status).set_body_string(body);
        domain_of(Service::Messaging)
            .respond_with(answer)
            .mount(&cloud.server)
            .await;

        let error = cloud.publish().await.unwrap_err();

        assert!(error.is_transient(), "{status} {body}: {error:?}");
        assert!(!error.outcome_unknown(), "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn a_domain_is_cached_for_five_minutes() {
    let cloud = Cloud::silent().await;
    cloud.mock_domain(Service::Messaging, "msg.example").await;

    for (wait_ms, expected) in [(0, 1), (5 * 60 * 1000 - 1, 1), (1, 2)] {
        cloud.clock.advance(chrono::Duration::milliseconds(wait_ms));
        find(&cloud).await.unwrap();
        assert_eq!(lookups(&cloud).await, expected, "{wait_ms}");
    }
}

#[tokio::test]
async fn a_stale_domain_is_used_while_the_domain_api_fails() {
    let cloud = Cloud::silent().await;
    cloud.mock_domain(Service::Messaging, "msg.example").await;
    find(&cloud).await.unwrap();
    cloud.server.reset().await;

    cloud.clock.advance(chrono::Duration::days(1));

    assert_eq!(find(&cloud).await.unwrap(), "https://msg.example/");
}

#[tokio::test]
async fn a_failed_domain_lookup_is_repeated_twice() {
    let cloud = Cloud::silent().await;
    domain_of(Service::Messaging)
        .respond_with(ResponseTemplate::new(500).set_body_string("<html>"))
        .up_to_n_times(2)
        .mount(&cloud.server)
        .await;
    cloud.mock_domain(Service::Messaging, "msg.example").await;

    assert_eq!(find(&cloud).await.unwrap(), "https://msg.example/");
}

#[tokio::test]
async fn a_host_that_moved_is_looked_up_again_and_the_message_sent_once() {
    let cloud = Cloud::ready().await;
    cloud.server.reset().await;
    cloud.mock_token(1).await;
    domain_of(Service::Messaging)
        .respond_with(ok(
            json!({"service": "asyncMessagingEnt", "baseURI": dead_base()}),
        ))
        .up_to_n_times(1)
        .mount(&cloud.server)
        .await;
    cloud.mock_domains().await;
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 4})))
        .await;

    assert_eq!(cloud.publish().await.unwrap(), 4);
    assert_eq!(cloud.requests_to(SEND).await.len(), 1);
}

#[tokio::test]
async fn an_unreachable_host_means_that_nothing_was_sent() {
    let cloud = Cloud::silent().await;
    cloud.mock_domain(Service::Messaging, &dead_base()).await;
    cloud.mock_domains().await;
    cloud.mock_token(1).await;

    for _ in 0..2 {
        let error = cloud.publish().await.unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
        assert!(error.is_transient() && !error.outcome_unknown());
    }
    // By now the circuit breaker is open.
    for _ in 0..3 {
        let error = cloud.publish().await.unwrap_err();
        let is_not_sent = matches!(error, Error::NotAttempted(_) | Error::Unreachable(_));
        assert!(is_not_sent, "{error:?}");
        assert!(error.is_transient() && !error.outcome_unknown());
    }

    assert_eq!(
        lookups(&cloud).await,
        2,
        "an unavailable host is not looked up for every call"
    );
}

#[tokio::test]
async fn a_failed_host_lookup_means_that_no_message_was_sent() {
    let cloud = Cloud::silent().await;
    cloud
        .mock_domain(Service::Sentinel, &cloud.server.uri())
        .await;
    cloud.mock_token(1).await;
    domain_of(Service::Messaging)
        .respond_with(ResponseTemplate::new(502))
        .mount(&cloud.server)
        .await;

    let error = cloud.publish().await.unwrap_err();

    assert!(matches!(error, Error::NotAttempted(_)), "{error:?}");
    assert!(error.is_transient() && !error.outcome_unknown());
    assert_eq!(lookups(&cloud).await, 3, "no retry within a retry");
}
