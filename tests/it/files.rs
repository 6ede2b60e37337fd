//! Files: uploaded to the Cloud as it requires, and fetched from there again by the user's own
//! channels only.

use std::io::Cursor;

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use liveperson_bridge::sandbox::{Answer, Fault, Operation, RecordedRequest, Reply as Answered};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{FORM, Part, form, send};
use crate::support::cloud::Cloud;
use crate::support::configuration::{APP_KEY, SMS_KEY, WEB_KEY, WHATSAPP_KEY, bridge_toml};
use crate::support::connection::Connection;
use crate::support::database::{Database, Engine};
use crate::support::patience::eventually;
use crate::support::pictures::{Colours, Jpeg};
use crate::support::process::Process;

on_both_engines!(
    a_file_is_announced_stored_and_published,
    a_file_opens_a_conversation_by_the_channels_defaults,
    a_caption_may_come_before_or_after_the_file,
    a_gif_too_large_for_a_preview_is_sent_without_one,
    large_photos_and_long_screenshots_have_a_preview,
    many_large_photos_at_once_take_little_memory,
    the_file_type_is_taken_from_the_first_bytes_only,
    a_file_type_that_the_account_excludes_is_refused,
    a_file_above_the_accounts_size_limit_is_refused,
    a_form_that_breaks_a_rule_is_refused_by_its_part,
    form_part_names_are_read_in_every_notation,
    an_unquoted_boundary_that_needs_quotes_is_refused,
    a_body_that_is_no_form_is_refused,
    an_expired_upload_url_is_requested_again_once,
    a_failed_upload_is_repeated_and_then_queued,
    publishing_is_not_repeated,
    a_file_to_a_closed_conversation_is_sent_in_a_new_one,
    a_conversation_that_closes_during_an_upload_is_replaced,
    a_file_is_fetched_as_it_was_sent,
    a_file_of_an_agent_is_fetched_under_the_media_type_of_its_kind,
    a_file_is_fetched_after_the_conversation_has_ended,
    an_expired_download_url_is_requested_again_once,
    a_revoked_consumer_token_is_renewed_for_file_requests,
    a_file_is_readable_only_through_its_own_user,
    a_file_that_the_cloud_has_deleted_is_not_found,
    files_beyond_the_channels_share_are_refused,
);

const FILES: &str = "/v1/users/ada/files";

/// Encodes a picture of one colour.
fn picture(format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = RgbImage::from_pixel(160, 120, Rgb([0, 90, 200]));
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png() -> Vec<u8> {
    picture(ImageFormat::Png)
}

fn file(content: &[u8]) -> Part<'_> {
    Part {
        name: "file",
        file_name: Some("photo.png"),
        content,
    }
}

fn caption(content: &[u8]) -> Part<'_> {
    Part {
        name: "caption",
        file_name: None,
        content,
    }
}

/// Returns the bodies of the sent requests of one type.
fn sent(cloud: &Cloud, kind: &str) -> Vec<Value> {
    let mut bodies = cloud.bodies(Operation::Send);
    bodies.retain(|body| body["type"] == kind);
    bodies
}

fn upload_urls(cloud: &Cloud) -> Vec<Value> {
    sent(cloud, "ms.GenerateURLForUploadFile")
}

fn download_urls(cloud: &Cloud) -> Vec<Value> {
    sent(cloud, "ms.GenerateURLForDownloadFile")
}

/// Returns the events that published files.
fn published(cloud: &Cloud) -> Vec<Value> {
    let mut events: Vec<_> = sent(cloud, "ms.PublishEvent")
        .iter_mut()
        .map(|body| body["body"]["event"].take())
        .collect();
    events.retain(|event| event["contentType"] == "hosted/file");
    events
}

fn only<T: std::fmt::Debug>(mut items: Vec<T>) -> T {
    assert_eq!(items.len(), 1, "{items:?}");
    items.remove(0)
}

/// Asserts that a request to the file storage has the storage's own path and credential, given
/// once, and no other credential.
fn assert_bare(request: &RecordedRequest) {
    for name in ["authorization", "x-lp-on-behalf", "client-properties"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    assert!(request.path.starts_with("/v1/"), "{}", request.path);
    let names: Vec<_> = request
        .query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap().0)
        .collect();
    assert_eq!(names, ["temp_url_expires", "temp_url_sig"]);
}

fn unauthorized(operation: Operation, times: u32) -> Fault {
    Fault {
        times,
        ..Fault::status(operation, StatusCode::UNAUTHORIZED)
    }
}

async fn a_file_is_announced_stored_and_published(engine: Engine) {
    let app = TestApp::start(engine).await;
    let png = png();
    let first = app.sms.say("ada", "hello").await.expect(201);

    let reply = app.sms.send_file("ada", &png).await.expect(201);

    let announced = only(upload_urls(&app.cloud));
    assert_eq!(
        announced["body"],
        json!({"fileSize": png.len().to_string(), "fileType": "PNG"})
    );
    let upload = only(app.cloud.requests(Operation::Upload));
    assert_eq!((upload.method.as_str(), upload.size), ("PUT", png.len()));
    assert_bare(&upload);
    assert_eq!(app.cloud.sandbox.file(&upload.path).unwrap(), png);
    let mut event = only(published(&app.cloud));
    let preview = event["message"]["preview"].take();
    let preview = preview.as_str().unwrap();
    assert!(preview.starts_with("data:image/jpeg;base64,") && preview.len() < 30_000);
    assert_eq!(
        event,
        json!({"type": "ContentEvent", "contentType": "hosted/file", "message": {
            "caption": "", "relativePath": upload.path, "fileType": "PNG", "preview": null,
        }})
    );
    assert_eq!(reply["conversation_id"], first["conversation_id"]);
    assert_eq!(reply["sequence"], 1);
    assert_eq!(reply["status"], "sent");
    assert_eq!(reply["user_id"], "ada");
    assert!(reply["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(reply["file"]["file_type"], "PNG");
    assert!(reply["file"]["id"].as_str().unwrap().starts_with("file_"));
    // A text message has no file.
    assert_eq!(first.get("file"), None);
}

async fn a_file_opens_a_conversation_by_the_channels_defaults(engine: Engine) {
    let app = TestApp::start(engine).await;

    let web = app.sms.with_key(WEB_KEY);
    web.send_file("ada", &png()).await.expect(201);

    let opening = only(app.cloud.bodies(Operation::Conversation));
    assert_eq!(opening[1]["body"]["skillId"], "2736637412");
    let sends = app.cloud.requests(Operation::Send);
    assert_eq!(sends.len(), 2);
    for send in sends {
        let properties = send.header("client-properties").unwrap();
        assert!(properties.contains("AUTO_MESSAGES"), "{properties}");
    }
    assert_bare(&only(app.cloud.requests(Operation::Upload)));
}

async fn a_caption_may_come_before_or_after_the_file(engine: Engine) {
    let app = TestApp::start(engine).await;
    let png = png();
    let text = "Zoë's receipt 👋";

    for (parts, expected) in [
        ([file(&png), caption(text.as_bytes())], text),
        ([caption(text.as_bytes()), file(&png)], text),
        ([file(&png), caption(b"")], ""),
    ] {
        app.sms.post_form(FILES, &parts).await.expect(201);

        let event = published(&app.cloud).pop().unwrap();
        assert_eq!(event["message"]["caption"], expected);
    }
}

async fn a_gif_too_large_for_a_preview_is_sent_without_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    // The GIF claims a size of 65535 by 65535 pixels.
    let huge = b"GIF89a\xff\xff\xff\xff\0\0\0\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\0\x3b";

    app.sms.send_file("ada", huge).await.expect(201);

    let event = only(published(&app.cloud));
    assert_eq!(event["message"]["fileType"], "GIF");
    assert_eq!(event["message"].get("preview"), None);
}

/// Encodes a grey photo of the given size, as a camera or another program writes it.
fn photo(width: u16, height: u16, is_progressive: bool, colours: Colours) -> Vec<u8> {
    let jpeg = Jpeg {
        width,
        height,
        is_progressive,
        colours,
        restarts: 0,
        brightness: |_, _| 128,
    };
    jpeg.write()
}

async fn large_photos_and_long_screenshots_have_a_preview(engine: Engine) {
    let app = TestApp::start(engine).await;
    let grey = |width, height| {
        let mut bytes = Cursor::new(Vec::new());
        let picture = GrayImage::from_pixel(width, height, Luma([128]));
        picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    };

    for file in [
        grey(5712, 4284),
        grey(1170, 16_000),
        photo(5712, 4284, false, Colours::Quarter),
        photo(5712, 4284, true, Colours::Full),
        photo(8064, 6048, false, Colours::Grey),
        photo(8064, 6048, false, Colours::Quarter),
        photo(8064, 6048, true, Colours::Full),
    ] {
        app.sms.send_file("ada", &file).await.expect(201);

        let event = published(&app.cloud).pop().unwrap();
        let preview = event["message"]["preview"].as_str().unwrap();
        assert!(preview.starts_with("data:image/jpeg;base64,") && preview.len() < 30_000);
    }
}

/// Returns the peak memory of a process in KiB; zero on systems that do not report it there.
fn peak_memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or(0, |peak| {
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

async fn many_large_photos_at_once_take_little_memory(engine: Engine) {
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let toml = bridge_toml(&database.location, &cloud.url);
    let (process, sms, _admin) = Process::serve(&toml).await;
    sms.send_file("ada", &png()).await.expect(201);
    let before = peak_memory(process.id());
    // The coefficients of this photo alone would take 280 MiB.
    let photo = photo(8064, 6048, true, Colours::Full);

    let mut sends = tokio::task::JoinSet::new();
    for user in 0..6 {
        let (sms, photo) = (sms.clone(), photo.clone());
        sends.spawn(async move { sms.send_file(&format!("user-{user}"), &photo).await });
    }
    for reply in sends.join_all().await {
        reply.expect(201);
    }

    let more = peak_memory(process.id()) - before;
    assert!(more < 100 * 1024, "{more} KiB");
}

async fn the_file_type_is_taken_from_the_first_bytes_only(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (format, kind) in [
        (ImageFormat::Jpeg, "JPG"),
        (ImageFormat::Png, "PNG"),
        (ImageFormat::Gif, "GIF"),
    ] {
        // Each is named photo.png and declared as image/png.
        let reply = app.sms.post_form(FILES, &[file(&picture(format))]).await;

        assert_eq!(reply.expect(201)["file"]["file_type"], kind);
        assert_eq!(
            upload_urls(&app.cloud).pop().unwrap()["body"]["fileType"],
            kind
        );
    }
    app.cloud.sandbox.clear_requests();
    for content in [
        &b"%PDF-1.7"[..],
        b"<svg/>",
        b"x",
        b"\x89PNG",
        b"RIFF\0\0\0\0WEBP",
    ] {
        let refused = app.sms.post_form(FILES, &[file(content)]).await;

        let problem = refused.expect_problem(415, "unsupported-media-type");
        let detail = problem["detail"].as_str().unwrap();
        assert!(
            detail.ends_with("allowed types: JPG, PNG, GIF."),
            "{detail}"
        );
    }
    assert!(app.cloud.sandbox.requests().is_empty());
}

async fn a_file_type_that_the_account_excludes_is_refused(engine: Engine) {
    let app = configured(engine, "file_types = [\"JPG\"]").await;

    let refused = app.sms.send_file("ada", &png()).await;

    refused.expect_problem(415, "unsupported-media-type");
    let jpeg = picture(ImageFormat::Jpeg);
    app.sms.send_file("ada", &jpeg).await.expect(201);
}

/// Starts a service with one more line in the configuration of its account.
async fn configured(engine: Engine, line: &str) -> TestApp {
    let change = |toml: String| toml.replace("domain_api", &format!("{line}\ndomain_api"));
    TestApp::start_configured(Cloud::start().await, Database::create(engine).await, change).await
}

async fn a_file_above_the_accounts_size_limit_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut content = b"GIF89a".to_vec();
    content.resize(3_000_000, 0);
    app.sms.send_file("ada", &content).await.expect(201);
    let upload = only(app.cloud.requests(Operation::Upload));
    assert_eq!(upload.size, 3_000_000);
    app.cloud.sandbox.clear_requests();

    content.push(0);
    let refused = app.sms.send_file("ada", &content).await;

    let problem = refused.expect_problem(413, "body-too-large");
    assert!(problem["detail"].as_str().unwrap().contains("3000000"));
    // The answer comes before the whole body has arrived, because the rest cannot change it.
    let mut connection = begin_file(&app, 100_000_000).await;
    let line = "x".repeat(10_000);
    for _ in 0..301 {
        connection.write(&line).await;
    }
    let reply = connection.read().await;
    reply.expect_problem(413, "body-too-large");
    assert!(app.cloud.sandbox.requests().is_empty());
    let strict = configured(engine, "max_file_bytes = 1000").await;
    let refused = strict.sms.send_file("ada", &content[..1001]).await;
    refused.expect_problem(413, "body-too-large");
    strict
        .sms
        .send_file("ada", &content[..1000])
        .await
        .expect(201);
}

/// Begins to send a file in a request of `length` bytes.
async fn begin_file(app: &TestApp, length: usize) -> Connection {
    let mut connection = Connection::open(&app.sms).await.unwrap();
    connection
        .write_head(&[
            &format!("POST {FILES} HTTP/1.1"),
            &format!("Authorization: Bearer {SMS_KEY}"),
            &format!("Content-Type: {FORM}"),
            &format!("Content-Length: {length}"),
        ])
        .await;
    let begun = String::from_utf8(form(&[file(b"GIF89a")])).unwrap();
    let end = begun.rfind("\r\n--").unwrap();
    connection.write(&begun[..end]).await;
    connection
}

async fn a_form_that_breaks_a_rule_is_refused_by_its_part(engine: Engine) {
    let app = TestApp::start(engine).await;
    let png = png();
    let other = |name| Part {
        name,
        ..caption(b"x")
    };
    let long = [b'x'; 5001];

    for (parts, pointer, expected) in [
        (vec![], "/file", "missing"),
        (vec![caption(b"x")], "/file", "missing"),
        (vec![file(b"")], "/file", "not empty"),
        (vec![file(&png), file(&png)], "/file", "once"),
        (
            vec![caption(b"a"), caption(b"b"), file(&png)],
            "/caption",
            "once",
        ),
        (
            vec![caption(b""), caption(b"b"), file(&png)],
            "/caption",
            "once",
        ),
        (vec![caption(b"\xff"), file(&png)], "/caption", "UTF-8"),
        (vec![caption(&long), file(&png)], "/caption", "5000"),
        (vec![caption(b"a\0b"), file(&png)], "/caption", "U+0000"),
        (vec![file(&png), caption(b"\0")], "/caption", "U+0000"),
        (vec![file(&png), other("open")], "/open", "unknown part"),
        (vec![other("a/b~c")], "/a~1b~0c", "unknown part"),
        (vec![other("")], "/", "unknown part"),
    ] {
        let refused = app.sms.post_form(FILES, &parts).await;

        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer);
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains(expected), "{pointer}: {detail}");
    }
    assert!(app.cloud.sandbox.requests().is_empty());
    let longest = &long[..5000];
    let parts = [caption(longest), file(&png)];
    app.sms.post_form(FILES, &parts).await.expect(201);
}

async fn form_part_names_are_read_in_every_notation(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (file, caption) in [
        (
            "form-data; Name=\"file\"; FileName=\"photo.png\"",
            "form-data; NAME=caption",
        ),
        (
            "Form-Data;FILENAME=\"name=x.png\";name=file",
            "form-data; name = \"caption\"",
        ),
        (
            "form-data; filename*=UTF-8''a%00.png; name=\"file\"",
            "attachment; nAmE=\"caption\"",
        ),
    ] {
        let part = |disposition: &str, content: &[u8]| {
            let head = format!("--b\r\nContent-Disposition: {disposition}\r\n\r\n");
            [head.as_bytes(), content, b"\r\n"].concat()
        };
        let body = [
            part(caption, b"look"),
            part(file, &png()),
            b"--b--\r\n".to_vec(),
        ]
        .concat();
        let request = app.sms.request(Method::POST, FILES);
        let request = request
            .header("content-type", "Multipart/Form-Data; Boundary=b")
            .body(body);

        send(request).await.expect(201);

        let event = published(&app.cloud).pop().unwrap();
        assert_eq!(event["message"]["caption"], "look", "{file}");
    }
}

async fn an_unquoted_boundary_that_needs_quotes_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let line = "===1732860000000===";
    let body = form(&[file(&png())]);
    let usual = b"a-line-between-parts";
    let mut lines = Vec::new();
    let mut remaining = &body[..];
    while let Some(at) = remaining
        .windows(usual.len())
        .position(|some| some == usual)
    {
        lines.extend_from_slice(&remaining[..at]);
        lines.extend_from_slice(line.as_bytes());
        remaining = &remaining[at + usual.len()..];
    }
    lines.extend_from_slice(remaining);
    let send_with = async |content_type: String| {
        let request = app.sms.request(Method::POST, FILES);
        send(
            request
                .header("content-type", content_type)
                .body(lines.clone()),
        )
        .await
    };

    let refused = send_with(format!("multipart/form-data; boundary={line}")).await;

    let problem = refused.expect_problem(415, "unsupported-media-type");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.contains("quotes") && detail.contains("boundary=\""),
        "{detail}"
    );
    assert!(app.cloud.sandbox.requests().is_empty());
    send_with(format!("multipart/form-data; boundary=\"{line}\""))
        .await
        .expect(201);
}

async fn a_body_that_is_no_form_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let body = form(&[file(&png())]);

    for (media_type, body, status, code) in [
        ("image/png", png(), 415, "unsupported-media-type"),
        (
            "application/json",
            b"{}".to_vec(),
            415,
            "unsupported-media-type",
        ),
        (
            "multipart/form-data",
            body.clone(),
            415,
            "unsupported-media-type",
        ),
        (
            "multipart/mixed; boundary=b",
            body.clone(),
            415,
            "unsupported-media-type",
        ),
        (
            FORM,
            body[..body.len() / 2].to_vec(),
            400,
            "malformed-request",
        ),
        (FORM, b"no form at all".to_vec(), 400, "malformed-request"),
        (FORM, vec![], 400, "malformed-request"),
        // The bytes before the first part count towards the limit as well.
        (FORM, vec![b'x'; 4_000_000], 413, "body-too-large"),
    ] {
        let request = app.sms.request(Method::POST, FILES);
        let request = request.header("content-type", media_type).body(body);

        send(request).await.expect_problem(status, code);
    }
    let bare = app.sms.request(Method::POST, FILES).body(body);
    send(bare)
        .await
        .expect_problem(415, "unsupported-media-type");
}

async fn an_expired_upload_url_is_requested_again_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.cloud.sandbox.inject(unauthorized(Operation::Upload, 1));

    app.sms.send_file("ada", &png()).await.expect(201);

    let uploads = app.cloud.requests(Operation::Upload);
    assert_eq!(upload_urls(&app.cloud).len(), 2);
    assert_eq!(uploads.len(), 2);
    assert_ne!(uploads[0].path, uploads[1].path);
    let event = only(published(&app.cloud));
    assert_eq!(event["message"]["relativePath"], *uploads[1].path);
    app.cloud.sandbox.inject(unauthorized(Operation::Upload, 9));
    app.cloud.sandbox.clear_requests();
    let refused = app.sms.send_file("ada", &png()).await;
    let problem = refused.expect_problem(422, "cloud-refused");
    assert_eq!(problem["upstream"]["status"], 401);
    assert_eq!(app.cloud.requests(Operation::Upload).len(), 2);
}

async fn a_failed_upload_is_repeated_and_then_queued(engine: Engine) {
    let app = TestApp::start(engine).await;
    let lost = |operation, times| Fault {
        times,
        after_applying: true,
        ..Fault::status(operation, StatusCode::GATEWAY_TIMEOUT)
    };
    app.cloud.sandbox.inject(lost(Operation::Upload, 2));

    app.sms.send_file("ada", &png()).await.expect(201);

    assert_eq!(app.cloud.requests(Operation::Upload).len(), 3);
    assert_eq!(upload_urls(&app.cloud).len(), 1);
    only(published(&app.cloud));
    // An unanswered request for an upload URL has no consequence either.
    app.cloud.sandbox.inject(lost(Operation::Send, 1));
    app.sms.send_file("ada", &png()).await.expect(201);
    app.cloud.sandbox.clear_requests();
    app.cloud.sandbox.inject(lost(Operation::Upload, 3));
    let refused = app.sms.send_file("ada", &png()).await;
    assert!(published(&app.cloud).is_empty());
    app.wait_until(refused, "sent").await;
    only(published(&app.cloud));
}

/// Obtains an upload URL, and makes the Cloud answer the next request for one with it. A fault that
/// is injected afterwards applies to the request after that.
async fn answer_the_next_announcement(app: &TestApp, size: usize) {
    let body = json!({"fileSize": size.to_string(), "fileType": "PNG"});
    let raw = json!({"type": "ms.GenerateURLForUploadFile", "body": body});
    let url = app.sms.post("/v1/users/ada/send", raw).await.expect(200);
    let mut answer = Answered::new(StatusCode::OK);
    answer.body = json!({"code": "OK", "body": url["body"]}).to_string();
    app.cloud
        .sandbox
        .inject(Fault::new(Operation::Send, Answer::Reply(answer)));
}

async fn publishing_is_not_repeated(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.sms.say("ada", "hello").await.expect(201);
    answer_the_next_announcement(&app, png().len()).await;
    app.cloud.sandbox.inject(Fault {
        after_applying: true,
        ..Fault::status(Operation::Send, StatusCode::BAD_GATEWAY)
    });

    let unknown = app.sms.send_file("ada", &png()).await;

    unknown.expect(202);
    only(published(&app.cloud));
}

fn close_by_agent(app: &TestApp, id: &Value) {
    let id = id.as_str().unwrap();
    assert!(app.cloud.sandbox.close_conversation(id, "AGENT"));
}

async fn a_file_to_a_closed_conversation_is_sent_in_a_new_one(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    close_by_agent(&app, &first);

    let second = app.sms.send_file("ada", &png()).await.expect(201);

    assert_ne!(second["conversation_id"], first);
    assert_eq!(second["sequence"], 0);
    assert_eq!(app.cloud.requests(Operation::Upload).len(), 1);
}

async fn a_conversation_that_closes_during_an_upload_is_replaced(engine: Engine) {
    let app = TestApp::start(engine).await;
    let first = app.sms.say("ada", "one").await.expect(201)["conversation_id"].take();
    answer_the_next_announcement(&app, png().len()).await;
    close_by_agent(&app, &first);

    let second = app.sms.send_file("ada", &png()).await.expect(201);

    assert_ne!(second["conversation_id"], first);
    assert_eq!(published(&app.cloud).len(), 2);
    let file = second["file"]["id"].as_str().unwrap();
    let fetched = fetch(&app, &format!("{FILES}/{file}")).await;
    assert_eq!(fetched.content, png());
}

/// A file as a channel receives it.
struct Fetched {
    headers: HeaderMap,
    content: Vec<u8>,
}

async fn fetch(app: &TestApp, path: &str) -> Fetched {
    let response = app.sms.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    Fetched {
        headers: response.headers().clone(),
        content: response.bytes().await.unwrap().into(),
    }
}

/// Sends a file and returns the path to fetch it from.
async fn send_and_name(app: &TestApp, content: &[u8]) -> String {
    let sent = app.sms.send_file("ada", content).await.expect(201);
    format!("{FILES}/{}", sent["file"]["id"].as_str().unwrap())
}

async fn a_file_is_fetched_as_it_was_sent(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut large = b"GIF89a".to_vec();
    large.resize(3_000_000, b'!');

    for (content, media_type, extension) in [
        (picture(ImageFormat::Jpeg), "image/jpeg", "jpg"),
        (png(), "image/png", "png"),
        (large, "image/gif", "gif"),
    ] {
        let path = send_and_name(&app, &content).await;
        app.cloud.sandbox.clear_requests();

        let fetched = fetch(&app, &path).await;

        assert!(fetched.content == content, "{media_type}");
        let id = path.rsplit('/').next().unwrap();
        for (name, value) in [
            ("content-type", media_type.to_owned()),
            ("content-length", content.len().to_string()),
            (
                "content-disposition",
                format!("attachment; filename=\"{id}.{extension}\""),
            ),
            ("x-content-type-options", "nosniff".to_owned()),
            ("cache-control", "private, no-store".to_owned()),
        ] {
            assert_eq!(fetched.headers[name], value);
        }
        let download = only(app.cloud.requests(Operation::Download));
        assert_bare(&download);
        // Each fetch uses a URL of its own, because the last one may have expired.
        fetch(&app, &path).await;
        assert_eq!(download_urls(&app.cloud).len(), 2);
        assert_eq!(
            download_urls(&app.cloud)[0]["body"],
            json!({"relativePath": download.path})
        );
    }
}

async fn a_file_of_an_agent_is_fetched_under_the_media_type_of_its_kind(engine: Engine) {
    let app = TestApp::start(engine).await;
    app.subscribe_to_the_cloud();
    let sent = app.sms.say("ada", "hello").await.expect(201);
    let conversation = sent["conversation_id"].as_str().unwrap();
    let office = |name: &str| format!("application/vnd.openxmlformats-officedocument.{name}");
    let kinds = [
        ("DOCX", office("wordprocessingml.document"), "docx"),
        ("XLSX", office("spreadsheetml.sheet"), "xlsx"),
        ("PPTX", office("presentationml.presentation"), "pptx"),
        ("PDF", "application/pdf".to_owned(), "pdf"),
        ("MP4", "video/mp4".to_owned(), "mp4"),
        ("MP3", "audio/mpeg".to_owned(), "mp3"),
        ("OGG", "audio/ogg".to_owned(), "ogg"),
        ("WEBP", "image/webp".to_owned(), "webp"),
        ("CSV", "text/csv".to_owned(), "csv"),
        // Files that a browser might run, and files of unknown types, are served as plain bytes.
        ("HTML", "application/octet-stream".to_owned(), "bin"),
        ("SVG", "application/octet-stream".to_owned(), "bin"),
        ("XYZ", "application/octet-stream".to_owned(), "bin"),
    ];
    for (kind, ..) in &kinds {
        let action = json!({"type": "file", "content": "UEsDBA==", "file_type": kind});
        let action = serde_json::from_value(action).unwrap();
        app.cloud.sandbox.act(conversation, action).unwrap();
    }
    let files = eventually("all files are logged", async || {
        let mut messages = app.event_log("sms").await;
        messages.retain(|event| event["type"] == "message.created");
        (messages.len() == kinds.len()).then_some(messages)
    })
    .await;

    for ((kind, media_type, extension), event) in kinds.iter().zip(files) {
        let file = &event["data"]["file"];
        let id = file["id"].as_str().unwrap();
        let fetched = fetch(&app, &format!("{FILES}/{id}")).await;

        assert_eq!(file["file_type"], *kind);
        assert_eq!(fetched.content, b"PK\x03\x04");
        assert_eq!(fetched.headers["content-type"], media_type, "{kind}");
        assert_eq!(
            fetched.headers["content-disposition"],
            format!("attachment; filename=\"{id}.{extension}\"")
        );
        assert_eq!(fetched.headers["x-content-type-options"], "nosniff");
    }
}

async fn a_file_is_fetched_after_the_conversation_has_ended(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = send_and_name(&app, &png()).await;
    let close = "/v1/users/ada/conversation/close";
    app.sms.post(close, json!({})).await.expect(200);

    assert_eq!(fetch(&app, &path).await.content, png());

    // No conversation was opened for the fetch.
    assert_eq!(app.cloud.sandbox.conversations().len(), 1);
}

async fn an_expired_download_url_is_requested_again_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = send_and_name(&app, &png()).await;
    app.cloud
        .sandbox
        .inject(unauthorized(Operation::Download, 1));

    assert_eq!(fetch(&app, &path).await.content, png());

    assert_eq!(download_urls(&app.cloud).len(), 2);
    app.cloud
        .sandbox
        .inject(unauthorized(Operation::Download, 9));
    let refused = app.sms.get(&path).await;
    refused.expect_problem(422, "cloud-refused");
    assert_eq!(download_urls(&app.cloud).len(), 4);
}

async fn a_revoked_consumer_token_is_renewed_for_file_requests(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = send_and_name(&app, &png()).await;
    app.cloud.sandbox.revoke_consumer_tokens();

    assert_eq!(fetch(&app, &path).await.content, png());

    app.cloud.sandbox.revoke_consumer_tokens();
    app.sms.send_file("ada", &png()).await.expect(201);
    assert_eq!(app.cloud.bodies(Operation::ConsumerToken).len(), 3);
}

async fn a_file_is_readable_only_through_its_own_user(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = send_and_name(&app, &png()).await;
    let id = path.rsplit('/').next().unwrap().to_owned();
    app.sms.say("bob", "hello").await.expect(201);
    let other = app.sms.with_key(APP_KEY);
    other.say("ada", "hello").await.expect(201);
    app.cloud.sandbox.clear_requests();

    for refused in [
        other.get(&path).await,
        app.sms.get(&format!("/v1/users/bob/files/{id}")).await,
        app.sms.get(&format!("/v1/users/nobody/files/{id}")).await,
        app.sms.get(&format!("{FILES}/{}", id.to_uppercase())).await,
        app.sms.get(&format!("{FILES}/file_1")).await,
        app.sms.get(&format!("{FILES}/..%2F..")).await,
        app.sms
            .get(&format!("{FILES}/file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f"))
            .await,
        app.sms.get(&format!("{FILES}/%00")).await,
    ] {
        refused.expect_problem(404, "file-not-found");
    }

    assert!(app.cloud.sandbox.requests().is_empty());
    let sharing = app.sms.with_key(WHATSAPP_KEY);
    assert_eq!(sharing.get(&path).await.status, 200);
    // The erasure of a user includes the files.
    let forget = app.sms.request(Method::DELETE, "/v1/users/ada");
    send(forget).await.expect(204);
    let reply = app.sms.get(&path).await;
    reply.expect_problem(404, "file-not-found");
    assert!(!app.database.dump().await.contains(&id));
}

async fn a_file_that_the_cloud_has_deleted_is_not_found(engine: Engine) {
    let app = TestApp::start(engine).await;
    let path = send_and_name(&app, &png()).await;

    for operation in [Operation::Send, Operation::Download] {
        let fault = Fault::status(operation, StatusCode::NOT_FOUND);
        app.cloud.sandbox.inject(fault);

        let problem = app
            .sms
            .get(&path)
            .await
            .expect_problem(404, "file-not-found");

        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("no longer"), "{detail}");
    }
    assert_eq!(fetch(&app, &path).await.content, png());
}

async fn files_beyond_the_channels_share_are_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut in_progress = Vec::new();

    let refused = eventually("all slots are in use", async || {
        in_progress.push(begin_file(&app, 1_000_000).await);
        let reply = app.sms.send_file("ada", &png()).await;
        (reply.status != 201).then_some(reply)
    })
    .await;

    assert_eq!(refused.headers["retry-after"], "1");
    // A channel may hold three quarters of the 16 slots; the rest is for other channels.
    assert!(in_progress.len() >= 12, "{}", in_progress.len());
    let problem = refused.expect_problem(503, "too-many-files");
    assert_eq!(problem["retryable"], true);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("of this channel"), "{detail}");
    let other = app.sms.with_key(APP_KEY);
    other.send_file("ada", &png()).await.expect(201);
    // Texts and downloads are not affected.
    app.sms.say("ada", "hello").await.expect(201);
    // A caller that hangs up frees its slot.
    drop(in_progress);
    eventually("a slot is free", async || {
        let reply = app.sms.send_file("ada", &png()).await;
        (reply.status == 201).then_some(())
    })
    .await;
}
