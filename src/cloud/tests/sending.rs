use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::types::message::{ChatState, ReceiptStatus};

/// Checks the id of the only request that was sent, and returns the request without it.
async fn sent(cloud: &Cloud) -> Value {
    let requests = cloud.requests_to(SEND).await;
    let [request] = requests.as_slice() else {
        panic!("{requests:?}")
    };
    assert_eq!(request.url.query(), Some("v=3"));
    let mut body: Value = request.body_json().unwrap();
    let id = body.as_object_mut().unwrap().remove("id").unwrap();
    assert!(id.as_str().unwrap().parse::<Uuid>().is_ok());
    body
}

#[tokio::test]
async fn a_text_names_both_its_dialog_and_its_conversation() {
    let cloud = Cloud::ready().await;
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 3})))
        .await;
    let conversation = Conversation {
        dialog_id: "survey",
        ..cloud.conversation()
    };

    let sequence = cloud.client.publish(
        &conversation,
        Content::Text("Zoë \"👋\"\n"),
        None,
        &cloud.trace,
    );

    assert_eq!(sequence.await.unwrap(), 3);
    assert_eq!(
        sent(&cloud).await,
        json!({"kind": "req", "type": "ms.PublishEvent", "body": {"dialogId": "survey", "conversationId": CONV,
            "event": {"type": "ContentEvent", "contentType": "text/plain", "message": "Zoë \"👋\"\n"}}})
    );
}

#[tokio::test]
async fn a_sequence_may_be_text_and_a_success_may_lack_one() {
    for (body, sequence) in [
        (json!({"code": "OK", "body": {"sequence": "3"}}), Some(3)),
        (json!({"code": "OK", "body": {"sequence": 3.0}}), None),
        (json!({"code": "OK", "body": {"sequence": -1}}), None),
        (json!({"code": "OK", "body": {}}), None),
        (json!({"code": "OK", "body": "OK"}), None),
        (json!({"code": "OK"}), None),
        (json!([{"code": 200, "body": null}]), None),
    ] {
        let cloud = Cloud::ready().await;
        cloud.on(SEND, ok(&body)).await;

        let published = cloud.publish().await;

        match sequence {
            Some(sequence) => assert_eq!(published.unwrap(), sequence, "{body}"),
            None => assert!(matches!(published, Err(Error::MissingSequence)), "{body}"),
        }
        assert_eq!(cloud.requests_to(SEND).await.len(), 1);
    }
}

#[tokio::test]
async fn a_bare_401_renews_the_app_jwt_and_repeats_the_request_once() {
    for body in [
        "",
        "<html>",
        r#"{"code":"UNAUTHORIZED","body":{"msg":"Unauthorized"},"reqId":"1"}"#,
    ] {
        let cloud = Cloud::ready().await;
        cloud.mock_token(2).await;
        let refused = ResponseTemplate::new(401).set_body_string(body);
        posted(SEND)
            .respond_with(refused)
            .up_to_n_times(1)
            .mount(&cloud.server)
            .await;
        cloud
            .on(SEND, envelope(200, "OK", json!({"sequence": 3})))
            .await;

        assert_eq!(cloud.publish().await.unwrap(), 3, "{body}");

        let sent = cloud.requests_to(SEND).await;
        let tokens: Vec<_> = sent.iter().map(|it| &it.headers["authorization"]).collect();
        assert_eq!(tokens.len(), 2);
        assert_ne!(tokens[0], tokens[1]);
    }
}

#[tokio::test]
async fn constant_401_responses_do_not_renew_the_app_jwt_each_time() {
    let cloud = Cloud::ready().await;
    cloud.mock_token(2).await;
    cloud.on(SEND, ResponseTemplate::new(401)).await;

    for _ in 0..5 {
        let error = cloud.publish().await.unwrap_err();
        assert!(matches!(
            error,
            Error::Unauthorized {
                is_from_gateway: true,
                ..
            }
        ));
    }

    assert_eq!(cloud.requests_to(APP_TOKEN).await.len(), 2);
    cloud.clock.advance(chrono::TimeDelta::seconds(5));
    cloud.mock_token(3).await;
    assert!(cloud.publish().await.is_err());
    assert_eq!(cloud.requests_to(APP_TOKEN).await.len(), 3);
}

#[tokio::test]
async fn a_refused_raw_request_closes_only_the_conversation_it_names() {
    let cloud = Cloud::ready().await;
    cloud
        .on(
            SEND,
            envelope(404, "NOT_FOUND", json!({"msg": "Conversation not found"})),
        )
        .await;
    for (body, is_over) in [
        (json!({"dialogId": CONV}), true),
        (json!({"dialogId": CONV, "conversationId": CONV}), true),
        (json!({"dialogId": "another"}), false),
        (
            json!({"dialogId": CONV, "conversationId": "another"}),
            false,
        ),
        (json!({}), false),
    ] {
        let conversation = cloud.conversation();
        let request = RawRequest {
            name: "ms.PublishEvent",
            body: body.as_object().unwrap(),
            metadata: None,
        };

        let outcome = cloud.client.send_raw(&conversation, &request, &cloud.trace);

        let error = outcome.await.unwrap_err();
        let is_closed = matches!(error, Error::ConversationClosed);
        assert_eq!(is_closed, is_over, "{body}: {error:?}");
    }
}

#[tokio::test]
async fn the_sequence_in_the_response_to_a_chat_state_is_ignored() {
    let cloud = Cloud::ready().await;
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 0})))
        .await;

    let conversation = cloud.conversation();
    let published = cloud.client.signal(
        &conversation,
        Signal::ChatState(ChatState::Composing),
        &cloud.trace,
    );

    let () = published.await.unwrap();
    assert_eq!(
        sent(&cloud).await["body"]["event"],
        json!({"type": "ChatStateEvent", "chatState": "COMPOSING"})
    );
}

#[tokio::test]
async fn receipts_list_the_sequences_of_the_agents_messages() {
    let cloud = Cloud::ready().await;
    cloud
        .on(SEND, envelope(200, 200, json!({"sequence": 4})))
        .await;

    let conversation = cloud.conversation();
    let published = cloud.client.signal(
        &conversation,
        Signal::Receipts(ReceiptStatus::Read, &[1, 2]),
        &cloud.trace,
    );

    published.await.unwrap();
    assert_eq!(
        sent(&cloud).await["body"]["event"],
        json!({"type": "AcceptStatusEvent", "status": "READ", "sequenceList": [1, 2]})
    );
}

#[tokio::test]
async fn closing_a_conversation_sets_its_state() {
    let cloud = Cloud::ready().await;
    let body = json!({"msg": "OK Conversation resolved successfully"});
    cloud.on(SEND, envelope(200, "OK", body)).await;

    cloud
        .client
        .signal(&cloud.conversation(), Signal::Close, &cloud.trace)
        .await
        .unwrap();

    assert_eq!(
        sent(&cloud).await,
        json!({"kind": "req", "type": "cm.UpdateConversationField", "body": {"conversationId": CONV,
            "conversationField": {"field": "ConversationStateField", "conversationState": "CLOSE"}}})
    );
}

#[tokio::test]
async fn closing_everything_sets_the_conversation_stage() {
    let cloud = Cloud::ready().await;
    cloud.on(SEND, envelope(200, "OK", json!({}))).await;

    cloud
        .client
        .signal(&cloud.conversation(), Signal::CloseEverything, &cloud.trace)
        .await
        .unwrap();

    assert_eq!(
        sent(&cloud).await,
        json!({"kind": "req", "type": "cm.UpdateConversationField", "body": {"conversationId": CONV,
            "conversationField": {"field": "Stage", "conversationState": "CLOSE"}}})
    );
}

#[tokio::test]
async fn closing_the_main_dialog_uses_its_id_during_a_survey() {
    let cloud = Cloud::ready().await;
    cloud.on(SEND, envelope(200, "OK", json!({}))).await;
    let conversation = Conversation {
        dialog_id: "survey",
        ..cloud.conversation()
    };

    cloud
        .client
        .signal(&conversation, Signal::CloseMainDialog, &cloud.trace)
        .await
        .unwrap();

    assert_eq!(
        sent(&cloud).await,
        json!({"kind": "req", "type": "cm.UpdateConversationField", "body": {"conversationId": CONV,
            "conversationField": {"field": "DialogChange", "type": "UPDATE",
                "dialog": {"dialogId": CONV, "state": "CLOSE", "closedCause": "Closed by consumer"}}}})
    );
}

#[tokio::test]
async fn the_file_sharing_check_requests_an_upload_url_and_uploads_nothing() {
    let cloud = Cloud::ready().await;
    let url = json!({"relativePath": "/v1/a.PNG", "queryParams": {"temp_url_sig": "s", "temp_url_expires": "1"}});
    cloud.on(SEND, envelope(200, "OK", url)).await;

    let conversation = cloud.conversation();
    let checked = cloud
        .client
        .check_file_sharing(conversation.consumer, &cloud.trace);

    checked.await.unwrap();
    assert_eq!(
        sent(&cloud).await,
        json!({"kind": "req", "type": "ms.GenerateURLForUploadFile",
            "body": {"fileSize": "1000", "fileType": "PNG"}})
    );
}

#[tokio::test]
async fn client_properties_are_repeated_on_every_request_of_the_conversation() {
    let mut cloud = Cloud::ready().await;
    cloud.features = serde_json::from_value(json!(["AUTO_MESSAGES"])).unwrap();
    cloud
        .on(SEND, envelope(200, "OK", json!({"sequence": 0})))
        .await;

    cloud.publish().await.unwrap();
    let conversation = cloud.conversation();
    cloud
        .client
        .signal(
            &conversation,
            Signal::ChatState(ChatState::Pause),
            &cloud.trace,
        )
        .await
        .unwrap();
    cloud
        .client
        .signal(
            &conversation,
            Signal::Receipts(ReceiptStatus::Accept, &[1]),
            &cloud.trace,
        )
        .await
        .unwrap();
    cloud
        .client
        .signal(&conversation, Signal::Close, &cloud.trace)
        .await
        .unwrap();

    let requests = cloud.requests_to(SEND).await;
    assert_eq!(requests.len(), 4);
    for request in requests {
        assert_eq!(
            request.headers["client-properties"],
            r#"{"type":".ClientProperties","features":["AUTO_MESSAGES"]}"#
        );
    }
}

#[tokio::test]
async fn without_features_there_are_no_client_properties() {
    let cloud = Cloud::ready().await;
    posted(SEND)
        .and(Without("client-properties"))
        .respond_with(envelope(200, "OK", json!({"sequence": 0})))
        .mount(&cloud.server)
        .await;

    assert!(cloud.publish().await.is_ok());
}

#[tokio::test]
async fn a_conversation_closed_meanwhile_is_recognized_under_either_status() {
    for status in [200, 400] {
        let cloud = Cloud::ready().await;
        let body = json!({"msg": "Bad Request, Conversation is close"});
        cloud.on(SEND, envelope(status, "BAD_REQUEST", body)).await;

        let published = cloud.publish().await.unwrap_err();
        let closed = cloud
            .client
            .signal(&cloud.conversation(), Signal::Close, &cloud.trace)
            .await
            .unwrap_err();

        assert!(
            matches!(published, Error::ConversationClosed),
            "{published:?}"
        );
        assert!(matches!(closed, Error::ConversationClosed), "{closed:?}");
    }
}

#[tokio::test]
async fn a_success_without_a_sequence_leaves_the_outcome_unknown() {
    for body in [
        json!({}),
        json!({"sequence": -1}),
        json!({"sequence": 1_u64 << 40}),
        json!("OK"),
    ] {
        let cloud = Cloud::ready().await;
        cloud.on(SEND, envelope(200, "OK", body.clone())).await;

        let error = cloud.publish().await.unwrap_err();

        assert!(error.outcome_unknown(), "{body}: {error:?}");
    }
}

#[tokio::test]
async fn a_refused_consumer_jws_is_returned_without_a_retry() {
    let cloud = Cloud::ready().await;
    cloud.on(SEND, token_refused(40103)).await;

    let error = cloud.publish().await.unwrap_err();

    assert!(matches!(error, Error::ConsumerTokenRefused), "{error:?}");
    assert_eq!(cloud.requests_to(SEND).await.len(), 1);
}

#[tokio::test]
async fn faults_and_throttling_are_returned_with_their_pause_and_not_retried() {
    for (status, outcome_unknown) in [(429, false), (500, false), (503, false), (504, true)] {
        let cloud = Cloud::ready().await;
        let answer = ResponseTemplate::new(status).insert_header("retry-after", "3");
        cloud
            .on(SEND, answer.set_body_string("<html>later</html>"))
            .await;

        let error = cloud.publish().await.unwrap_err();

        assert!(error.is_transient(), "{error:?}");
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
        assert_eq!(error.outcome_unknown(), outcome_unknown, "{error:?}");
        assert_eq!(cloud.requests_to(SEND).await.len(), 1);
    }
}

#[tokio::test]
async fn a_timed_out_send_has_an_unknown_outcome_and_no_retry() {
    let cloud = Cloud::with_limits(Limits {
        send: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    cloud.mock_domains().await;
    cloud.mock_token(1).await;
    cloud
        .on(
            SEND,
            ResponseTemplate::new(200).set_delay(Duration::from_secs(10)),
        )
        .await;

    let error = cloud.publish().await.unwrap_err();

    assert!(matches!(error, Error::NoAnswer(_)), "{error:?}");
    assert!(error.outcome_unknown());
    assert_eq!(cloud.requests_to(SEND).await.len(), 1);
}

#[tokio::test]
async fn a_truncated_response_leaves_the_outcome_unknown() {
    let cloud = Cloud::silent().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    cloud.mock_domain(Service::Messaging, &base).await;
    cloud.mock_domains().await;
    cloud.mock_token(1).await;

    let (published, ()) = tokio::join!(cloud.publish(), async {
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
        connection.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
    });

    let error = published.unwrap_err();
    assert!(matches!(error, Error::NoAnswer(_)), "{error:?}");
}
