//! Query parameters: each operation refuses those that it does not have, and names them.

use liveperson_bridge::api;
use reqwest::Method;
use serde_json::json;

use crate::support::app::TestApp;
use crate::support::channel::{Reply, send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, sign};
use crate::support::database::Engine;

on_both_engines!(
    every_operation_of_channels_refuses_unknown_parameters,
    an_unknown_parameter_does_not_use_up_the_key,
    a_notification_is_accepted_with_any_query,
    operator_requests_with_unknown_parameters_are_refused,
);

/// Returns the method, path and query parameters of every operation for channels.
fn operations() -> Vec<(Method, String, Vec<String>)> {
    let document = serde_json::to_value(api::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(path, _)| path.starts_with("/v1/"));
    let operations = paths.flat_map(|(path, item)| {
        let path = path
            .replace("{user_id}", "ada")
            .replace("{file_id}", "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")
            .replace("{event_id}", "evt_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")
            .replace("{message_id}", "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f");
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_query = parameters.filter(|parameter| parameter["in"] == "query");
            let names = of_query.map(|parameter| parameter["name"].as_str().unwrap().to_owned());
            let method = method.to_uppercase().parse().unwrap();
            (method, path.clone(), names.collect())
        })
    });
    operations.collect()
}

async fn every_operation_of_channels_refuses_unknown_parameters(engine: Engine) {
    let app = TestApp::start(engine).await;
    let operations = operations();
    assert!(operations.len() >= 20, "{operations:?}");

    for (method, path, supported) in operations {
        let mut methods = vec![method.clone()];
        if method == Method::GET {
            methods.push(Method::HEAD);
        }
        let supported = supported.iter().map(|name| format!("{name}=&"));
        let supported: String = supported.collect();
        for method in methods {
            for (query, pointer) in [
                ("foo=1".to_owned(), "/foo"),
                (format!("{supported}user+id=ada"), "/user id"),
                ("%66oo".to_owned(), "/foo"),
                // Names are case-sensitive, like those of members.
                ("AFTER=c0".to_owned(), "/AFTER"),
            ] {
                let request = app.sms.request(method.clone(), &format!("{path}?{query}"));
                let reply = send(request).await;

                if method == Method::HEAD {
                    assert_eq!(reply.status, 422, "{method} {path}?{query}");
                    continue;
                }
                let problem = reply.expect_problem(422, "invalid-request");
                let error = &problem["errors"][0];
                assert_eq!(error["pointer"], pointer, "{method} {path}?{query}");
                let detail = error["detail"].as_str().unwrap();
                assert!(
                    detail.starts_with("unknown parameter, expected "),
                    "{detail}"
                );
            }
        }
        // A caller without a valid key gets no other answer.
        let unauthorized = app.sms.with_key("no key");
        let refused = send(unauthorized.request(method, &format!("{path}?foo=1"))).await;
        refused.expect_problem(401, "unauthorized");
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn an_unknown_parameter_does_not_use_up_the_key(engine: Engine) {
    let app = TestApp::start(engine).await;
    let send_keyed = async |path: &str| {
        let request = app.sms.request(Method::POST, path);
        let request = request
            .header("content-type", "application/json")
            .header("idempotency-key", "a-key");
        send(request.body(json!({"text": "Hello"}).to_string())).await
    };

    let refused = send_keyed("/v1/users/ada/messages?dry_run=true").await;
    refused.expect_problem(422, "invalid-request");

    send_keyed("/v1/users/ada/messages").await.expect(201);
    assert_eq!(
        app.cloud.texts(&app.cloud.only_conversation().id),
        ["Hello"]
    );
}

async fn a_notification_is_accepted_with_any_query(engine: Engine) {
    let app = TestApp::start(engine).await;
    let body = json!({"kind": "notification", "type": "ms.MessagingEventNotification", "body": {"changes": []}});
    let body = body.to_string();
    let path = format!("/webhooks/{ACCOUNT}?gateway=1&gateway=2");

    let request = app.sms.request(Method::POST, &path);
    let request = request
        .header("content-type", "application/json")
        .header("x-liveperson-account-id", ACCOUNT)
        .header("x-liveperson-client-id", CLIENT_ID)
        .header(
            "x-liveperson-signature",
            sign(body.as_bytes(), CLIENT_SECRET),
        )
        .body(body);

    send(request).await.expect(200);
}

async fn operator_requests_with_unknown_parameters_are_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let admin = &app.admin;
    let refused =
        |reply: Reply| reply.expect_problem(422, "invalid-request")["errors"][0]["pointer"].clone();

    for path in [
        "/api/overview?foo=1",
        "/api/events/evt_1?foo=1",
        "/api/messages/msg_1?foo=1",
        "/api/operator?foo=1",
        "/api/audit?foo=1",
        "/api/deliveries?channel=sms&state=failed&foo=1",
    ] {
        assert_eq!(refused(admin.get(path).await), "/foo", "{path}");
    }
    for path in [
        "/api/replay?foo=1",
        "/api/pause?foo=1",
        "/api/resume?foo=1",
        "/api/events/evt_1/retry?foo=1",
        "/api/events/evt_1/text?foo=1",
        "/api/users/timeline?foo=1",
    ] {
        assert_eq!(refused(admin.post(path, json!({})).await), "/foo", "{path}");
    }
    for path in [
        "/api/audit?channel=sms&limit=1",
        "/api/deliveries?channel=sms&state=failed&before=",
        // Probes may have any parameter.
        "/livez?verbose",
        "/readyz?verbose",
        "/metrics?foo=1",
    ] {
        admin.get(path).await.expect(200);
    }
}
