//! The wire: its entries, its followers, and the secrets that it never shows.

use axum::body::HttpBody as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::receiver::{Receiver, ReceiverAnswer, SECRET, eventually};
use super::*;
use crate::webhooks::{Disturbance, DisturbanceKind, Retry};
use crate::{Answer as FaultAnswer, Fault, Operation};

const AS_JSON: (&str, &str) = ("accept", "application/json");

impl Cloud {
    /// Returns the entries that the wire shows.
    pub(super) async fn wire_entries(&self) -> Vec<Value> {
        let answer = self.call("GET", "/_sandbox/wire", &[AS_JSON], "").await;
        assert_eq!(answer.headers["content-type"], "application/json");
        answer.body["entries"].as_array().unwrap().clone()
    }

    /// Follows the wire. Returns the stream that the follower reads.
    async fn follow(&self, last: Option<&str>) -> Body {
        let mut request = Request::get("/_sandbox/wire");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = self.sandbox.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body()
    }

    async fn send_requests(&self, times: usize) {
        for _ in 0..times {
            self.call("GET", "/nowhere", &[], "").await;
        }
    }
}

/// Returns the next text that a follower is sent; `None` at the end.
async fn next_chunk(body: &mut Body) -> Option<String> {
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
    let frame = tokio::time::timeout(std::time::Duration::from_secs(20), frame);
    let bytes = frame.await.unwrap()?.unwrap().into_data().unwrap();
    Some(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Returns the ids of the entries in a text.
fn ids(text: &str) -> Vec<u64> {
    let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
    ids.map(|id| id.parse().unwrap()).collect()
}

#[tokio::test]
async fn the_wire_is_a_json_list_if_accept_prefers_json() {
    let cloud = Cloud::new();

    for accept in [
        "application/json",
        "text/event-stream;q=0, application/json",
        "application/json, text/event-stream;q=0.1",
    ] {
        let headers = [("accept", accept)];
        let answer = cloud.call("GET", "/_sandbox/wire", &headers, "").await;
        assert_eq!(
            answer.headers["content-type"], "application/json",
            "{accept}"
        );
    }
}

#[tokio::test]
async fn requests_to_the_cloud_are_shown_with_their_responses() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;

    cloud.send(&tokens, &text(&id, "Grüße")).await;

    let entries = cloud.wire_entries().await;
    let operations: Vec<_> = entries.iter().map(|entry| &entry["operation"]).collect();
    assert_eq!(
        operations,
        ["app_token", "consumer_token", "conversation", "send"]
    );
    let sent = &entries[3];
    assert_eq!(sent["id"], 4);
    assert_eq!(sent["at"], "2027-01-15T08:00:00Z");
    assert_eq!(sent["kind"], "cloud");
    assert_eq!(sent["method"], "POST");
    assert_eq!(sent["status"], 200);
    assert_eq!(sent["fault"], false);
    assert!(sent["duration_ms"].as_f64().is_some());
    let request: Value = serde_json::from_str(sent["request"]["body"].as_str().unwrap()).unwrap();
    assert_eq!(request, text(&id, "Grüße"));
    assert_eq!(
        sent["request"]["headers"]["content-type"],
        "application/json"
    );
    let answered = sent["response"]["body"].as_str().unwrap();
    assert!(answered.contains(r#""sequence":0"#), "{answered}");
    assert_eq!(
        sent["response"]["headers"]["content-type"],
        "application/json"
    );
}

#[tokio::test]
async fn neither_tokens_nor_secrets_are_shown() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::default()).await;
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    cloud.settled().await;

    let upload = json!({"kind": "req", "id": "u", "type": "ms.GenerateURLForUploadFile",
        "body": {"fileSize": "5", "fileType": "PNG"}});
    let upload = cloud.send(&tokens, &upload).await;

    let signature = receiver.got()[0]
        .header("x-liveperson-signature")
        .to_owned();
    let shown = json!(cloud.wire_entries().await).to_string();
    let url_signature = upload.body["body"]["queryParams"]["temp_url_sig"].as_str();
    for secret in [
        &tokens.app,
        &tokens.consumer,
        "s3cret",
        SECRET,
        &signature,
        url_signature.unwrap(),
    ] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("client_secret=•••"), "{shown}");
    assert!(shown.contains(&id));
}

#[tokio::test]
async fn requests_hit_by_a_fault_are_marked_and_shown_immediately() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    cloud
        .sandbox
        .inject(Fault::status(Operation::Send, StatusCode::BAD_GATEWAY));
    cloud.sandbox.inject(Fault::stall(Operation::Send));
    cloud.send(&tokens, &text(&id, "first")).await;

    let request = text(&id, "second");
    let stalled = cloud.send(&tokens, &request);
    let entries = async {
        eventually("shown", || {
            let entries = cloud.sandbox.0.wire.count();
            (entries == 5).then_some(())
        })
        .await;
        cloud.wire_entries().await
    };
    let entries = tokio::select! {
        _ = stalled => panic!("a stalled request was answered"),
        entries = entries => entries,
    };

    let (affected, stalled) = (&entries[3], &entries[4]);
    assert_eq!(
        (&affected["status"], &affected["fault"]),
        (&json!(502), &json!(true))
    );
    assert_eq!(
        (&stalled["status"], &stalled["fault"]),
        (&json!(null), &json!(true))
    );
    assert_eq!(stalled["response"], json!({"headers": {}, "body": ""}));
    assert_eq!(cloud.sandbox.0.wire.count(), 5, "shown once");
}

#[tokio::test]
async fn each_attempt_to_send_a_notification_is_shown() {
    let (cloud, receiver) = Cloud::with_receiver(Retry::ByNumber(1)).await;
    receiver.answer([ReceiverAnswer::Status(503)]);
    let disturbance = Disturbance::next(DisturbanceKind::OldForm);
    cloud.sandbox.disturb(disturbance);
    let tokens = cloud.tokens("u-1").await;
    cloud.open(&tokens).await;
    eventually("tried", || {
        (!cloud.sandbox.notifications().is_empty()).then_some(())
    })
    .await;

    cloud.advance(30);
    cloud.settled().await;

    let mut entries = cloud.wire_entries().await;
    entries.retain(|entry| entry["kind"] == "notification");
    let statuses: Vec<_> = entries.iter().map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, [503, 200]);
    assert_eq!(entries[0]["url"], receiver.url());
    assert_eq!(entries[0]["fault"], true);
    let body = entries[0]["request"]["body"].as_str().unwrap();
    assert!(
        body.contains("cqm.ExConversationChangeNotification"),
        "{body}"
    );
    let headers = &entries[0]["request"]["headers"];
    assert_eq!(headers["x-liveperson-signature"], "•••");
}

#[tokio::test]
async fn an_unanswered_notification_is_shown_without_a_status() {
    let cloud = Cloud::new();
    let mut webhook = Receiver::start().await.webhook(Retry::default());
    webhook.url = "http://127.0.0.1:1/".parse().unwrap();
    cloud.sandbox.subscribe(webhook);

    assert!(cloud.sandbox.notify_foreign(ACCOUNT).is_some());
    cloud.settled().await;

    let entries = cloud.wire_entries().await;
    assert_eq!(entries[0]["kind"], "notification");
    assert_eq!(entries[0]["status"], json!(null));
}

#[tokio::test]
async fn a_follower_receives_existing_entries_and_then_new_ones() {
    let cloud = Cloud::new();
    cloud.send_requests(2).await;

    let mut body = cloud.follow(None).await;
    let first = next_chunk(&mut body).await.unwrap();
    cloud.send_requests(1).await;
    let second = next_chunk(&mut body).await.unwrap();

    assert_eq!((ids(&first), ids(&second)), (vec![1, 2], vec![3]));
    let data = second.lines().find_map(|line| line.strip_prefix("data: "));
    let entry: Value = serde_json::from_str(data.unwrap()).unwrap();
    assert_eq!(entry, cloud.wire_entries().await[2]);
    assert!(second.ends_with("\n\n"));
}

#[tokio::test]
async fn a_reconnecting_follower_resumes_after_its_last_entry() {
    let cloud = Cloud::new();
    cloud.send_requests(3).await;

    let resumed = next_chunk(&mut cloud.follow(Some("2")).await)
        .await
        .unwrap();
    let restarted = next_chunk(&mut cloud.follow(Some("99")).await)
        .await
        .unwrap();
    let malformed = cloud
        .call("GET", "/_sandbox/wire", &[("last-event-id", "x")], "")
        .await;

    assert_eq!(ids(&resumed), [3]);
    assert_eq!(ids(&restarted), [1, 2, 3]);
    malformed.assert_complaint(400, "Last-Event-ID: expected");
}

#[tokio::test]
async fn a_slow_follower_learns_how_many_entries_it_missed() {
    let cloud = Cloud::new();
    cloud.send_requests(1).await;
    let mut slow = cloud.follow(None).await;
    assert_eq!(ids(&next_chunk(&mut slow).await.unwrap()), [1]);

    cloud.send_requests(1003).await;

    let next = next_chunk(&mut slow).await.unwrap();
    assert!(
        next.starts_with(": 3 entries dropped before they were read\ndata: "),
        "{next}"
    );
    assert_eq!(ids(&next).first(), Some(&5));
    assert_eq!(cloud.wire_entries().await.len(), 1000);
}

#[tokio::test(start_paused = true)]
async fn an_idle_wire_stream_is_kept_alive_until_the_sandbox_ends() {
    let cloud = Cloud::new();
    let mut body = cloud.follow(None).await;

    let comment = next_chunk(&mut body).await;
    cloud.sandbox.end();

    assert_eq!(comment.as_deref(), Some(":\n"));
    assert_eq!(next_chunk(&mut body).await, None);
}

#[tokio::test]
async fn a_reset_clears_the_wire_but_its_ids_continue() {
    let cloud = Cloud::new();
    cloud.send_requests(2).await;

    cloud.sandbox.reset();
    cloud.send_requests(1).await;

    let entries = cloud.wire_entries().await;
    assert_eq!((entries.len(), &entries[0]["id"]), (1, &json!(3)));
    assert_eq!(cloud.sandbox.requests()[0].id, 3);
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the test, which nothing waits for"
)]
async fn a_connection_that_is_cut_ends_without_a_byte() {
    let cloud = Cloud::new();
    let mut fault = Fault::new(None, FaultAnswer::Cut);
    fault.times = 1;
    cloud.sandbox.inject(fault);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = cloud.sandbox.router();
    tokio::task::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let path = "/api/account/12345678/service/baseURI.json?version=1.0";
    let get = async || {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: cloud\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer)
    };

    let cut = get().await;
    let answered = get().await.unwrap();

    assert_eq!(cut.unwrap_or_default(), "");
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let entries = cloud.wire_entries().await;
    assert_eq!(
        (&entries[0]["status"], &entries[0]["fault"]),
        (&json!(null), &json!(true))
    );
    assert_eq!(entries[0]["url"], format!("http://cloud{path}"));
    assert_eq!(entries[1]["status"], 200);
}
