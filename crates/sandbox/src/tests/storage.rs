//! File storage, and the SENDs about files.

use super::*;
use crate::{Fault, Operation};

/// The first bytes of a PNG, which are not UTF-8.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Creates a consumer with an open conversation.
async fn opened() -> (Cloud, Tokens, String) {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    (cloud, tokens, id)
}

fn upload_url(size: &Value, file_type: &str) -> Value {
    let body = json!({"fileSize": size, "fileType": file_type});
    json!({"kind": "req", "id": "f1", "type": "ms.GenerateURLForUploadFile", "body": body})
}

fn download_url(path: &str) -> Value {
    let body = json!({"relativePath": path});
    json!({"kind": "req", "id": "f2", "type": "ms.GenerateURLForDownloadFile", "body": body})
}

fn file(conversation: &str, message: &Value) -> Value {
    let event = json!({"type": "ContentEvent", "contentType": "hosted/file", "message": message});
    publish(conversation, &event)
}

fn message(path: &str) -> Value {
    json!({"relativePath": path, "fileType": "PNG", "caption": "Receipt"})
}

fn path(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.body["body"]["relativePath"].as_str().unwrap()
}

/// Returns the path and query of the URL that an answer allows.
fn uri(answer: &Answer) -> String {
    let parameters = &answer.body["body"]["queryParams"];
    format!(
        "{}?temp_url_sig={}&temp_url_expires={}",
        path(answer),
        parameters["temp_url_sig"].as_str().unwrap(),
        parameters["temp_url_expires"].as_str().unwrap()
    )
}

impl Cloud {
    async fn announce(&self, tokens: &Tokens, size: usize) -> Answer {
        self.send(tokens, &upload_url(&json!(size.to_string()), "PNG"))
            .await
    }

    async fn put(&self, uri: &str, bytes: &[u8]) -> Answer {
        self.call("PUT", uri, &[], bytes.to_vec()).await
    }

    async fn get(&self, uri: &str) -> Answer {
        self.call("GET", uri, &[], "").await
    }

    /// Uploads a file and returns its path.
    async fn upload(&self, tokens: &Tokens, bytes: &[u8]) -> String {
        let announced = self.announce(tokens, bytes.len()).await;
        let answer = self.put(&uri(&announced), bytes).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        path(&announced).to_owned()
    }
}

#[tokio::test]
async fn a_file_is_uploaded_published_and_downloaded() {
    let (cloud, tokens, id) = opened().await;

    let path = cloud.upload(&tokens, PNG).await;
    let published = cloud.send(&tokens, &file(&id, &message(&path))).await;
    let location = cloud.send(&tokens, &download_url(&path)).await;
    let downloaded = cloud.get(&uri(&location)).await;

    published.assert(
        200,
        json!({"code": "OK", "body": {"sequence": 0}, "reqId": "p"}),
    );
    assert_eq!(location.body["body"]["relativePath"], path);
    assert_eq!(downloaded.status, StatusCode::OK);
    assert_eq!(downloaded.headers["content-type"], "image/png");
    assert_eq!(downloaded.bytes, PNG);
    assert_eq!(cloud.sandbox.file(&path).as_deref(), Some(PNG));
}

#[tokio::test]
async fn an_upload_url_names_account_consumer_and_time_and_lasts_a_minute() {
    let (cloud, tokens, id) = opened().await;
    cloud.clock.advance(chrono::Duration::milliseconds(7));

    let answer = cloud.announce(&tokens, 1000).await;

    assert_eq!(
        (&answer.body["code"], &answer.body["reqId"]),
        (&json!("OK"), &json!("f1"))
    );
    let consumer = cloud.conversation(&id).consumer.lp_consumer_id;
    let (start, rest) = path(&answer).split_once("_uuid_").unwrap();
    assert_eq!(start, format!("/v1/AUTH_async-images/{ACCOUNT}/{consumer}"));
    let (uuid, time) = rest.split_once('_').unwrap();
    assert!(uuid::Uuid::parse_str(uuid).is_ok());
    assert_eq!(time, "15-01-2027_08-00-00-007.PNG");
    let parameters = &answer.body["body"]["queryParams"];
    assert_eq!(parameters["temp_url_expires"], "1800000060");
    let signature = parameters["temp_url_sig"].as_str().unwrap();
    assert_eq!(signature.len(), 40);
    assert!(signature.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[tokio::test]
async fn file_size_may_be_text_or_number_and_file_type_any_case() {
    let (cloud, tokens, _) = opened().await;

    for (size, file_type, extension) in [
        (json!("1"), "JPG", ".JPG"),
        (json!(1), "jpeg", ".JPEG"),
        (json!("3000000"), "Png", ".PNG"),
        (json!(3_000_000), "GIF", ".GIF"),
    ] {
        let answer = cloud.send(&tokens, &upload_url(&size, file_type)).await;
        assert!(path(&answer).ends_with(extension));
    }
}

#[tokio::test]
async fn refusal_of_a_malformed_upload_announcement_names_the_member() {
    let (cloud, tokens, _) = opened().await;

    let no_type = json!({"fileSize": "1"});
    let no_type =
        json!({"kind": "req", "id": "f", "type": "ms.GenerateURLForUploadFile", "body": no_type});
    let cases = [
        (
            upload_url(&json!("3000001"), "PNG"),
            "body.fileSize: `3000001`, expected the number of bytes, 1 to 3000000",
        ),
        (
            upload_url(&json!(3_000_001), "PNG"),
            "body.fileSize: `3000001`",
        ),
        (upload_url(&json!("0"), "PNG"), "body.fileSize: `0`"),
        (upload_url(&json!(-1), "PNG"), "body.fileSize: `-1`"),
        (upload_url(&json!("+5"), "PNG"), "body.fileSize: `+5`"),
        (upload_url(&json!("1 KB"), "PNG"), "body.fileSize: `1 KB`"),
        (
            upload_url(&json!(1.5), "PNG"),
            "body.fileSize: expected a string or an integer",
        ),
        (
            upload_url(&json!("1"), "PDF"),
            "body.fileType: `PDF`, expected `JPG`, `JPEG`, `PNG` or `GIF`",
        ),
        (
            upload_url(&json!("1"), "image/png"),
            "body.fileType: `image/png`",
        ),
        (no_type, "body: missing field `fileType`"),
    ];
    for (request, expected) in cases {
        let answer = cloud.send(&tokens, &request).await;
        answer.assert_complaint(400, expected);
    }
}

#[tokio::test]
async fn an_upload_needs_an_open_conversation_and_a_download_does_not() {
    let (cloud, tokens, id) = opened().await;
    let path = cloud.upload(&tokens, PNG).await;
    assert!(cloud.sandbox.close_conversation(&id, "AGENT"));

    let announced = cloud.announce(&tokens, 1).await;
    let location = cloud.send(&tokens, &download_url(&path)).await;
    let downloaded = cloud.get(&uri(&location)).await;

    announced.assert_complaint(400, "Conversation is close");
    assert_eq!(downloaded.bytes, PNG);
}

#[tokio::test]
async fn an_upload_announcement_must_repeat_the_features_of_the_opening() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    cloud
        .open_with(&tokens, Some(FEATURES), &batch(&json!({}), &json!({})))
        .await;
    let request = upload_url(&json!("1"), "PNG");

    let missing = cloud.post("/send", &tokens, None, &request).await;
    let same = cloud.post("/send", &tokens, Some(FEATURES), &request).await;

    missing.assert_complaint(400, "Client-Properties: missing");
    assert_eq!(same.status, StatusCode::OK, "{}", same.body);
}

#[tokio::test]
async fn any_file_of_the_account_can_be_downloaded_and_unknown_ones_cannot() {
    let (cloud, ada, _) = opened().await;
    let bob = cloud.tokens("bob").await;
    let path = cloud.upload(&ada, PNG).await;
    let other_cloud = Cloud::new();
    let other_tokens = other_cloud.tokens("u-1").await;

    let of_account = cloud.send(&bob, &download_url(&path)).await;
    let without_slash = cloud.send(&bob, &download_url(&path[1..])).await;
    let unknown = other_cloud.send(&other_tokens, &download_url(&path)).await;
    let empty = cloud.send(&bob, &download_url("")).await;

    assert_eq!(cloud.get(&uri(&of_account)).await.bytes, PNG);
    for refused in [without_slash, unknown, empty] {
        refused.assert_complaint(404, "body.relativePath: account `le12345678` has no file");
        assert_eq!(refused.body["code"], "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_file_of_another_account_is_not_found() {
    let (cloud, tokens, _) = opened().await;
    let path = cloud.upload(&tokens, PNG).await;
    let other = "le87654321";
    let uri = format!(
        "/sentinel/api/account/{other}/app/token?v=1.0&grant_type=client_credentials&client_id=a&client_secret=s"
    );
    let app = cloud.call("POST", &uri, &[], "").await;
    let app = app.body["access_token"].as_str().unwrap();
    let uri = format!("/api/account/{other}/consumer?v=1.0");
    let body = json!({"ext_consumer_id": "u-1"}).to_string();
    let consumer = cloud
        .call("POST", &uri, &[JSON, ("authorization", app)], body)
        .await;
    let consumer = consumer.body["token"].as_str().unwrap();

    let uri = format!("/api/account/{other}/messaging/consumer/conversation/send?v=3");
    let headers = [JSON, ("authorization", app), ("x-lp-on-behalf", consumer)];
    let answer = cloud
        .call("POST", &uri, &headers, download_url(&path).to_string())
        .await;

    answer.assert_complaint(404, "account `le87654321` has no file");
}

#[tokio::test]
async fn a_url_expires_after_a_minute() {
    let (cloud, tokens, _) = opened().await;
    let upload = uri(&cloud.announce(&tokens, PNG.len()).await);

    cloud.advance(60);
    let in_time = cloud.put(&upload, PNG).await;
    cloud.advance(1);
    let late = cloud.put(&upload, PNG).await;

    assert_eq!(in_time.status, StatusCode::CREATED);
    late.assert_complaint(
        401,
        "temp_url_expires: it expired at 1800000060, and the time is 1800000061",
    );
}

#[tokio::test]
async fn a_url_serves_one_method_and_one_path() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len()).await;
    let upload = uri(&announced);
    let other = uri(&cloud.announce(&tokens, PNG.len()).await);
    let (_, other_query) = other.split_once('?').unwrap();
    cloud.put(&upload, PNG).await;
    let location = cloud.send(&tokens, &download_url(path(&announced))).await;
    let download = uri(&location);

    let fetched = cloud.get(&upload).await;
    let stored = cloud.put(&download, PNG).await;
    let swapped = format!("{}?{other_query}", path(&announced));
    let swapped = cloud.put(&swapped, PNG).await;
    let prolonged = cloud
        .put(&upload.replace("=1800000060", "=1900000000"), PNG)
        .await;

    for refused in [fetched, stored, swapped, prolonged] {
        refused.assert_complaint(401, "Temp URL invalid: temp_url_sig: not valid for `");
    }
}

#[tokio::test]
async fn a_url_of_another_sandbox_or_without_its_parameters_is_refused() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len()).await;
    let upload = uri(&announced);

    let elsewhere = Cloud::new().put(&upload, PNG).await;
    let bare = cloud.put(path(&announced), PNG).await;
    let (unexpiring, _) = upload.split_once('&').unwrap();
    let unexpiring = cloud.put(unexpiring, PNG).await;

    elsewhere.assert_complaint(401, "temp_url_sig: not valid for");
    bare.assert_complaint(401, "query: expected temp_url_sig");
    unexpiring.assert_complaint(401, "query: expected temp_url_expires");
}

#[tokio::test]
async fn an_extra_slash_in_a_storage_url_is_refused() {
    let (cloud, tokens, _) = opened().await;
    let upload = uri(&cloud.announce(&tokens, PNG.len()).await);

    let answer = cloud.put(&format!("/{upload}"), PNG).await;

    answer.assert_complaint(401, "Temp URL invalid: //v1/");
    answer.assert_complaint(401, "one slash between");
}

#[tokio::test]
async fn tokens_must_not_be_sent_to_the_storage() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len()).await;

    for (name, token) in [
        ("Authorization", &tokens.app),
        ("X-LP-ON-BEHALF", &tokens.consumer),
    ] {
        let answer = cloud
            .call("PUT", &uri(&announced), &[(name, token)], PNG.to_vec())
            .await;
        answer.assert_complaint(
            400,
            &format!("{name}: unexpected; the storage must not receive tokens"),
        );
        assert!(!answer.complaint().contains(token.as_str()));
    }
    assert_eq!(cloud.sandbox.file(path(&announced)), None);
}

#[tokio::test]
async fn a_body_larger_than_announced_is_refused() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len() - 1).await;
    let largest = cloud.announce(&tokens, 3_000_000).await;

    let larger = cloud.put(&uri(&announced), PNG).await;
    let too_large = cloud.put(&uri(&largest), &vec![0; 3_000_001]).await;

    larger.assert_complaint(413, "body: 8 bytes, 7 were announced as fileSize");
    too_large.assert_complaint(413, "body: 3000001 bytes, 3000000 were announced");
    assert_eq!(cloud.sandbox.file(path(&announced)), None);
}

#[tokio::test]
async fn another_method_than_put_and_get_is_refused() {
    let (cloud, tokens, _) = opened().await;
    let upload = uri(&cloud.announce(&tokens, PNG.len()).await);

    let answer = cloud.call("POST", &upload, &[], PNG.to_vec()).await;

    answer.assert_complaint(405, "expected PUT or GET");
}

#[tokio::test]
async fn a_file_that_was_not_uploaded_or_announced_is_not_found() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len()).await;
    let location = cloud.send(&tokens, &download_url(path(&announced))).await;

    let before = cloud.get(&uri(&location)).await;
    cloud.sandbox.reset();
    let after_reset = cloud.put(&uri(&announced), PNG).await;

    before.assert_complaint(404, "nothing was uploaded there");
    after_reset.assert_complaint(404, "no such file was announced");
}

#[tokio::test]
async fn a_second_upload_replaces_the_first() {
    let (cloud, tokens, _) = opened().await;
    let announced = cloud.announce(&tokens, PNG.len()).await;

    cloud.put(&uri(&announced), b"partial").await;
    cloud.put(&uri(&announced), PNG).await;

    assert_eq!(cloud.sandbox.file(path(&announced)).as_deref(), Some(PNG));
}

#[tokio::test]
async fn the_oldest_uploads_give_way_to_new_ones() {
    let (cloud, tokens, id) = opened().await;
    let largest = vec![0; 3_000_000];
    let first = cloud.upload(&tokens, PNG).await;
    let second = cloud.upload(&tokens, &largest).await;
    let mut last = String::new();

    // 22 of the largest files fit, so these uploads displace the first two.
    for _ in 0..22 {
        last = cloud.upload(&tokens, &largest).await;
    }

    assert_eq!(cloud.sandbox.file(&first), None);
    assert_eq!(cloud.sandbox.file(&second), None);
    assert!(cloud.sandbox.file(&last).is_some());
    let published = cloud.send(&tokens, &file(&id, &message(&first))).await;
    published.assert_complaint(400, "where nothing was uploaded");
}

#[tokio::test]
async fn a_file_must_be_uploaded_whole_by_its_consumer_before_it_is_published() {
    let (cloud, ada, id) = opened().await;
    let bob = cloud.tokens("bob").await;
    cloud.open(&bob).await;
    let of_bob = cloud.upload(&bob, PNG).await;
    let announced = cloud.announce(&ada, PNG.len()).await;
    let partial = cloud.announce(&ada, PNG.len()).await;
    cloud.put(&uri(&partial), &PNG[1..]).await;

    let cases = [
        ("/v1/a.PNG", "which the consumer never announced"),
        (&of_bob, "which the consumer never announced"),
        (path(&announced), "where nothing was uploaded"),
        (path(&partial), "where 7 of 8 bytes were uploaded"),
    ];
    for (path, reason) in cases {
        let answer = cloud.send(&ada, &file(&id, &message(path))).await;
        assert_eq!(answer.body["code"], "BAD_REQUEST");
        answer.assert_complaint(400, "check size and corruption");
        answer.assert_complaint(400, reason);
    }
    assert!(cloud.conversation(&id).dialogs[0].events.is_empty());
}

#[tokio::test]
async fn a_preview_is_a_small_image_as_a_data_uri() {
    let (cloud, tokens, id) = opened().await;
    let path = cloud.upload(&tokens, PNG).await;
    let with_preview = |preview: &str| {
        let mut message = message(&path);
        message["preview"] = json!(preview);
        file(&id, &message)
    };
    let start = "data:image/jpeg;base64,";
    // The length of base64 is a multiple of four characters.
    let largest = format!("{start}{}", "A".repeat((29_999 - start.len()) / 4 * 4));

    let published = cloud.send(&tokens, &with_preview(&largest)).await;

    assert_eq!(published.status, StatusCode::OK, "{}", published.body);
    let cases = [
        (
            format!("{largest}AAAA"),
            "characters, expected fewer than 30000",
        ),
        (
            "AAAA".to_owned(),
            "body.event.message.preview: expected `data:image/",
        ),
        (
            start.to_owned(),
            "body.event.message.preview: expected `data:image/",
        ),
        (
            format!("{start}A A="),
            "body.event.message.preview: expected `data:image/",
        ),
        (
            "data:text/plain;base64,AAAA".to_owned(),
            "body.event.message.preview: expected `data:image/",
        ),
    ];
    for (preview, expected) in cases {
        let answer = cloud.send(&tokens, &with_preview(&preview)).await;
        answer.assert_complaint(400, expected);
    }
}

#[tokio::test]
async fn uploads_and_downloads_are_recorded_without_their_bytes() {
    let (cloud, tokens, _) = opened().await;
    let path = cloud.upload(&tokens, PNG).await;
    let location = cloud.send(&tokens, &download_url(&path)).await;

    cloud.get(&uri(&location)).await;

    let requests = cloud.sandbox.requests();
    let recorded = |operation| {
        let request = requests.iter().find(|r| r.operation == Some(operation));
        request.unwrap()
    };
    let (upload, download) = (recorded(Operation::Upload), recorded(Operation::Download));
    assert_eq!((upload.size, upload.body.as_str()), (PNG.len(), ""));
    assert_eq!(
        (download.method.as_str(), download.path.as_str()),
        ("GET", path.as_str())
    );
    let send = recorded(Operation::Send);
    assert_eq!(send.size, send.body.len());
}

#[tokio::test]
async fn recorded_request_bodies_are_limited_in_total_size() {
    let (cloud, tokens, _) = opened().await;
    cloud.sandbox.clear_requests();
    let large = "x".repeat(7 * 1024 * 1024);

    for _ in 0..10 {
        cloud.call("POST", "/nowhere", &[], large.clone()).await;
    }
    cloud.announce(&tokens, 1).await;

    let requests = cloud.sandbox.requests();
    assert_eq!(requests.len(), 10, "nine large ones, and the last");
    assert_eq!(requests[9].operation, Some(Operation::Send));
}

#[tokio::test]
async fn faults_apply_to_uploads_and_downloads_separately() {
    let (cloud, tokens, _) = opened().await;
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    cloud
        .sandbox
        .inject(Fault::status(Operation::Download, unavailable));
    cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Upload, StatusCode::BAD_GATEWAY)
    });
    let announced = cloud.announce(&tokens, PNG.len()).await;

    let lost = cloud.put(&uri(&announced), PNG).await;
    let location = cloud.send(&tokens, &download_url(path(&announced))).await;
    let affected = cloud.get(&uri(&location)).await;
    let unaffected = cloud.get(&uri(&location)).await;

    assert_eq!(lost.status, StatusCode::BAD_GATEWAY);
    assert_eq!(affected.status, unavailable);
    assert_eq!(unaffected.bytes, PNG);
}

#[tokio::test]
async fn file_bytes_are_served_by_full_path_or_file_name() {
    let cloud = Cloud::new();
    let tokens = cloud.tokens("u-1").await;
    let id = cloud.open(&tokens).await;
    let action = json!({"type": "file", "file_type": "PNG", "content": "UE5HIQ=="});
    let agent = format!("/_sandbox/conversations/{id}/agent");
    cloud
        .call("POST", &agent, &[JSON], action.to_string())
        .await;
    let conversation = cloud.conversation(&id);
    let event = &conversation.dialogs[0].events[0].event;
    let path = event["message"]["relativePath"].as_str().unwrap();
    let name = path.rsplit('/').next().unwrap();

    for path in [path, path.trim_start_matches('/'), name] {
        let uri = format!("/_sandbox/files/{path}");
        let answer = cloud.call("GET", &uri, &[], "").await;

        assert_eq!(answer.status, StatusCode::OK, "{uri}: {}", answer.body);
        assert_eq!(answer.bytes, "PNG!");
        assert_eq!(answer.headers["content-type"], "image/png");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    }
}
