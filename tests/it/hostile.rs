//! Hostile and malformed requests, written byte for byte. Each gets the refusal that fits it, none
//! makes the service fail, and well-behaved callers are served meanwhile.

use std::time::Duration;

use liveperson_bridge::sandbox::Operation;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::{ACCOUNT, CLIENT_ID, CLIENT_SECRET, Cloud, sign};
use crate::support::configuration::{SMS_KEY, bridge_toml};
use crate::support::connection::Connection;
use crate::support::database::{Database, Engine};
use crate::support::process::Process;

on_both_engines!(
    malformed_http_gets_the_status_that_http_prescribes,
    odd_json_bodies_get_the_fitting_refusal,
    odd_forms_get_the_fitting_refusal,
    odd_notifications_get_the_fitting_answer,
    unusual_characters_are_kept_unchanged,
);

/// 20 s: a limit far above the time that any answer takes.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

const MESSAGES: &str = "/v1/users/ada/messages";
const FILES: &str = "/v1/users/ada/files";

/// Stands in for a status: the connection is closed without an answer.
const CLOSED: u16 = 0;

/// The text that marks a connection that the service does not close.
const STAYS_OPEN: &str = "(the connection stays open)";

/// The service as a process, with a log that the tests can read.
struct Target {
    cloud: Cloud,
    _database: Database,
    process: Process,
    sms: Channel,
}

impl Target {
    async fn start(engine: Engine) -> Self {
        let cloud = Cloud::start().await;
        let database = Database::create(engine).await;
        let toml = bridge_toml(&database.location, &cloud.url);
        let (process, sms, _) = Process::serve(&toml).await;
        Self {
            cloud,
            _database: database,
            process,
            sms,
        }
    }

    /// Writes bytes and reads until the connection ends. Returns the statuses of the answers and
    /// all text that was received. If `half_closes` is true, closes the writing side after the
    /// bytes.
    async fn write(&self, bytes: &[u8], half_closes: bool) -> (Vec<u16>, String) {
        let stream = TcpStream::connect(self.sms.address()).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let mut read = Vec::new();
        let writing = async {
            // The service may refuse a caller early and close the connection while it still writes.
            let _cut = writer.write_all(bytes).await;
            if half_closes {
                let _closed = writer.shutdown().await;
            }
        };
        let reading = async {
            let _reset = reader.read_to_end(&mut read).await;
        };
        let ended = timeout(ANSWER_LIMIT, async { tokio::join!(writing, reading) }).await;
        if ended.is_err() {
            read.extend_from_slice(STAYS_OPEN.as_bytes());
        }
        let text = String::from_utf8_lossy(&read).into_owned();
        let heads = text.split("HTTP/1.").skip(1);
        let statuses = heads.map(|head| head[2..5].parse().unwrap()).collect();
        (statuses, text)
    }

    /// Asserts that each of these gets one answer, with its status, and nothing more.
    async fn expect_each(&self, cases: impl IntoIterator<Item = (&str, Vec<u8>, u16)>) {
        let mut wrong = Vec::new();
        for (name, bytes, expected) in cases {
            let (statuses, text) = self.write(&bytes, expected == CLOSED).await;
            let answered = statuses.first().copied().unwrap_or(CLOSED);
            // If the connection is closed while the caller still writes, the answer can be lost.
            let is_right = answered == expected || expected == 413 && answered == CLOSED;
            let is_right = is_right && !text.ends_with(STAYS_OPEN);
            if !is_right || statuses.len() > 1 {
                let start: String = text.chars().take(400).collect();
                wrong.push(format!(
                    "{name}: {expected} expected, {statuses:?}: {start}"
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Asserts that a well-behaved caller is served, and that the log shows no failure so far.
    async fn expect_healthy(&self) {
        self.sms.say("well-meant", "hello").await.expect(201);
        let log = self.process.log();
        for word in ["panicked", "request failed", " ERROR "] {
            assert!(!log.contains(word), "{log}");
        }
    }
}

/// Builds a complete request of the channel.
fn request(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\nAuthorization: Bearer {SMS_KEY}\r\n{headers}Content-Length: \
         {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Builds a POST of the channel with a JSON body.
fn post(path: &str, body: &str) -> Vec<u8> {
    let json = "Content-Type: application/json\r\n";
    request(&format!("POST {path}"), json, body)
}

#[expect(clippy::too_many_lines, reason = "a table, one case after the other")]
async fn malformed_http_gets_the_status_that_http_prescribes(engine: Engine) {
    let target = Target::start(engine).await;
    let hello = r#"{"text": "hello"}"#;
    let get = |path: &str| request(&format!("GET {path}"), "", "");
    let with = |headers: &str| request("GET /v1/users/nobody", headers, "");
    let raw = |text: String| text.into_bytes();
    let head = format!(
        "POST {MESSAGES} HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\nAuthorization: Bearer {SMS_KEY}\r\n\
         Content-Type: application/json\r\n"
    );
    let many = (0..1000)
        .map(|n| format!("x-{n}: y\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let long = "x".repeat(100 * 1024);

    target.expect_each([
        // Paths that the service does not have.
        ("dots", get("/v1/users/ada/../../webhooks"), 404),
        ("encoded dots", get("/v1/users/%2e%2e"), 400),
        ("a doubled slash", get("/v1//users/ada"), 404),
        ("slashes alone", get("//"), 404),
        ("a slash at the end", get("/v1/events/"), 404),
        ("parameters of a path", get("/v1/events;a=b"), 404),
        ("an encoded slash between", get("/v1%2Fevents"), 404),
        ("no UTF-8", get("/v1/users/%ff"), 400),
        ("no hexadecimal digits", get("/v1/users/%zz"), 400),
        ("half an escape", get("/v1/users/a%2"), 400),
        ("a percent sign", get("/v1/users/100%"), 400),
        ("an asterisk", request("OPTIONS *", "", ""), 404),
        ("an asterisk to be got", request("GET *", "", ""), 404),
        (
            "a whole URL",
            get("http://elsewhere.example/v1/users/nobody"),
            404,
        ),
        (
            "a tunnel",
            request("CONNECT elsewhere.example:443", "", ""),
            404,
        ),
        ("a space in the path", get("/v1/users/a b"), 400),
        (
            "a line of 64 KB",
            get(&format!("/{}", "x".repeat(65_000))),
            404,
        ),
        (
            "a longer line",
            get(&format!("/{}", "x".repeat(66_000))),
            414,
        ),
        ("an unknown method", request("BREW /v1/events", "", ""), 405),
        (
            "a method of letters alone",
            request("get /v1/events", "", ""),
            405,
        ),
        ("a trace", request("TRACE /v1/events", "", ""), 405),
        // Request heads.
        ("a head of 100 KB", with(&format!("x: {long}\r\n")), 404),
        (
            "a head of 1 MB",
            with(&format!("x: {}\r\n", long.repeat(10))),
            431,
        ),
        ("1000 headers", with(&many), 431),
        ("a header without a name", with(": y\r\n"), 400),
        ("a folded header", with("x: a\r\n b\r\n"), 400),
        ("a space before the colon", with("x : y\r\n"), 400),
        ("NUL in a header", with("x: \0\r\n"), 400),
        (
            "the key twice",
            with(&format!("Authorization: Bearer {SMS_KEY}\r\n")),
            404,
        ),
        ("an odd request id", with("X-Request-Id: \u{e9}\r\n"), 404),
        ("an odd trace", with("traceparent: 00-0-0-zz\r\n"), 404),
        ("an odd range", with("Range: bytes=9-1\r\n"), 404),
        (
            "an upgrade",
            with("Upgrade: h2c\r\nConnection: Upgrade\r\n"),
            404,
        ),
        ("two hosts", with("Host: bridge\r\n"), 400),
        (
            "no host",
            raw("GET /v1/events HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned()),
            400,
        ),
        (
            "a host that is none",
            raw("GET /v1/events HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".to_owned()),
            400,
        ),
        // Bytes that are not HTTP.
        ("nothing", Vec::new(), CLOSED),
        ("noise", vec![0; 1000], 400),
        (
            "TLS",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            400,
        ),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), CLOSED),
        ("half a head", b"GET / HTTP/1.1\r\nHost".to_vec(), CLOSED),
        (
            "an unknown version",
            raw("GET / HTTP/3.7\r\n\r\n".to_owned()),
            400,
        ),
        ("no version", raw("GET /\r\n\r\n".to_owned()), 400),
        (
            "HTTP/1.0",
            raw("GET /v1/events HTTP/1.0\r\n\r\n".to_owned()),
            401,
        ),
        // The end of a body. If it can be read in two ways, one request can hide behind another.
        (
            "a length and chunks",
            raw(format!(
                "{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/events HTTP/1.1\r\n\r\n"
            )),
            400,
        ),
        (
            "two lengths",
            raw(format!(
                "{head}Content-Length: 2\r\nContent-Length: 17\r\n\r\n{hello}"
            )),
            400,
        ),
        (
            "a negative length",
            raw(format!("{head}Content-Length: -1\r\n\r\n{hello}")),
            400,
        ),
        (
            "a signed length",
            raw(format!("{head}Content-Length: +17\r\n\r\n{hello}")),
            400,
        ),
        (
            "a length beyond all numbers",
            raw(format!(
                "{head}Content-Length: 99999999999999999999\r\n\r\n{hello}"
            )),
            400,
        ),
        (
            "a length beyond what is taken",
            raw(format!("{head}Content-Length: 9999999999\r\n\r\n{hello}")),
            413,
        ),
        (
            "an unknown coding",
            raw(format!("{head}Transfer-Encoding: gzip\r\n\r\n{hello}")),
            400,
        ),
        (
            "chunks that are not last",
            raw(format!(
                "{head}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"
            )),
            400,
        ),
        (
            "chunks in HTTP/1.0",
            raw(format!(
                "POST {MESSAGES} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            )),
            400,
        ),
        (
            "a chunk without a size",
            raw(format!(
                "{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n{hello}\r\n0\r\n\r\n"
            )),
            400,
        ),
        (
            "a chunk of all bytes there are",
            raw(format!(
                "{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{hello}"
            )),
            400,
        ),
        (
            "an unknown expectation",
            raw(format!(
                "{head}Expect: the-unexpected\r\nContent-Length: 17\r\n\r\n{hello}"
            )),
            201,
        ),
        (
            "a compressed body",
            raw(format!(
                "{head}Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x08\x08\x08"
            )),
            415,
        ),
        (
            "lines that end in a line feed alone",
            raw(format!(
                "GET /v1/users/nobody HTTP/1.1\nHost: bridge\nConnection: close\nAuthorization: Bearer {SMS_KEY}\n\n"
            )),
            404,
        ),
    ]).await;
    // Pipelined requests are answered one by one, in order.
    let (mut pipelined, mut last) = (Vec::new(), post(MESSAGES, hello));
    for n in 0..20 {
        pipelined.push(format!(
            "GET /v1/events?limit={n} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {SMS_KEY}\r\n\r\n"
        ));
    }
    let mut bytes = pipelined.concat().into_bytes();
    bytes.append(&mut last);
    let (statuses, _) = target.write(&bytes, false).await;
    assert_eq!(statuses.len(), 21);
    assert_eq!((statuses[0], statuses[1], statuses[20]), (422, 200, 201));
    target.expect_healthy().await;
}

#[expect(clippy::too_many_lines, reason = "a table, one case after the other")]
async fn odd_json_bodies_get_the_fitting_refusal(engine: Engine) {
    let target = Target::start(engine).await;
    let digits = "9".repeat(10_000);
    let text = |text: &str| format!(r#"{{"text": {text}}}"#);
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    let raw = |body: &str| format!(r#"{{"type": "x", "body": {{"a": {body}}}}}"#);
    let profile = |customer: &str| format!(r#"{{"customer": {{{customer}}}}}"#);

    let cases = [
        ("levels", MESSAGES, text(&deep(10_000)), 422),
        (
            "levels where any are taken",
            "/v1/users/ada/send",
            raw(&deep(10_000)),
            400,
        ),
        ("objects", "/v1/users/ada/send", raw(&deep_objects), 400),
        ("digits for a text", MESSAGES, text(&digits), 400),
        (
            "a fraction of digits",
            MESSAGES,
            text(&format!("0.{digits}")),
            422,
        ),
        (
            "digits where any are taken",
            "/v1/users/ada/send",
            raw(&digits),
            400,
        ),
        (
            "a member twice",
            MESSAGES,
            r#"{"text": "a", "text": "b"}"#.to_owned(),
            422,
        ),
        (
            "a member twice within",
            "/v1/users/ada/conversation",
            r#"{"profile": {"company": "a", "company": "b"}}"#.to_owned(),
            422,
        ),
        ("half a surrogate", MESSAGES, text(r#""\ud8""#), 400),
        ("NUL", MESSAGES, text(r#""a\u0000b""#), 422),
        (
            "a mark at the beginning",
            MESSAGES,
            format!("\u{feff}{}", text(r#""a""#)),
            400,
        ),
        ("no number", MESSAGES, text("NaN"), 400),
        (
            "a comment",
            MESSAGES,
            format!("/* */ {}", text(r#""a""#)),
            400,
        ),
        ("a million spaces", MESSAGES, " ".repeat(1_000_000), 413),
        (
            "many sequences",
            "/v1/users/ada/receipts",
            format!(
                r#"{{"status": "read", "sequences": [{}0]}}"#,
                "0,".repeat(100_000)
            ),
            422,
        ),
        (
            "a size beyond 32 bits",
            "/v1/users/ada/conversation",
            format!(
                r#"{{"profile": {}}}"#,
                profile(r#""company_size": 4294967296"#)
            ),
            422,
        ),
        (
            "a date that never was",
            "/v1/users/ada/conversation",
            r#"{"profile": {"birth_date": "2023-02-29"}}"#.to_owned(),
            422,
        ),
        (
            "a year of digits",
            "/v1/users/ada/conversation",
            format!(r#"{{"profile": {{"birth_date": "{digits}-01-01"}}}}"#),
            422,
        ),
        (
            "no time",
            "/v1/deliveries/replay",
            r#"{"since": "9999999-01-01T00:00:00Z"}"#.to_owned(),
            422,
        ),
    ]
    .into_iter()
    .map(|(name, path, body, expected)| (name, post(path, &body), expected));
    target.expect_each(cases).await;
    let mut bytes = post(MESSAGES, r#"{"text": "....."}"#);
    let dots = bytes.windows(5).position(|five| five == b".....").unwrap();
    bytes[dots..dots + 5].copy_from_slice(b"\xff\xfe\xc0\x80a");
    target.expect_each([("no UTF-8", bytes, 400)]).await;
    assert!(target.cloud.sandbox.requests().is_empty());
    target.expect_healthy().await;
}

#[expect(clippy::too_many_lines, reason = "a table, one case after the other")]
async fn odd_forms_get_the_fitting_refusal(engine: Engine) {
    let target = Target::start(engine).await;
    let form = |boundary: &str, body: &str| {
        let kind = format!("Content-Type: multipart/form-data{boundary}\r\n");
        request(&format!("POST {FILES}"), &kind, body)
    };
    let part = |headers: &str| format!("--b\r\n{headers}\r\n\r\nx\r\n");
    let named = "Content-Disposition: form-data; name=";
    let thousand = (0..1000)
        .map(|n| part(&format!("{named}\"p{n}\"")))
        .collect::<Vec<_>>()
        .concat();
    let headers = (0..10_000)
        .map(|n| format!("x-{n}: y\r\n"))
        .collect::<Vec<_>>()
        .concat();
    let nested = format!(
        "{named}\"file\"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--"
    );

    target
        .expect_each([
            ("no boundary", form("", "--b--"), 415),
            ("an empty boundary", form("; boundary=", "----"), 422),
            (
                "a long boundary",
                form(&format!("; boundary={}", "b".repeat(5000)), "--b--"),
                400,
            ),
            ("another boundary", form("; boundary=a", "--b--"), 400),
            ("nothing", form("; boundary=b", ""), 400),
            ("no part", form("; boundary=b", "--b--\r\n"), 422),
            (
                "no end",
                form("; boundary=b", &part(&format!("{named}\"file\""))),
                400,
            ),
            (
                "no name",
                form("; boundary=b", &format!("{}--b--", part("x: y"))),
                422,
            ),
            (
                "a part without a head",
                form("; boundary=b", "--b\r\n\r\nx\r\n--b--"),
                400,
            ),
            (
                "headers without end",
                form("; boundary=b", &format!("--b\r\n{headers}")),
                400,
            ),
            (
                "1000 parts",
                form("; boundary=b", &format!("{thousand}--b--")),
                422,
            ),
            (
                "a form in a form",
                form("; boundary=b", &format!("--b\r\n{nested}\r\n--b--")),
                415,
            ),
            (
                "two files",
                form(
                    "; boundary=b",
                    &format!("{0}{0}--b--", part(&format!("{named}\"file\""))),
                ),
                422,
            ),
            (
                "NUL in a caption",
                form(
                    "; boundary=b",
                    &format!("--b\r\n{named}\"caption\"\r\n\r\na\0\r\n--b--"),
                ),
                422,
            ),
            (
                "NUL in a file's name",
                form(
                    "; boundary=b",
                    &format!(
                        "{}--b--",
                        part(&format!("{named}\"file\"; filename=\"a\0.png\""))
                    ),
                ),
                400,
            ),
            (
                "a quote without end",
                form(
                    "; boundary=b",
                    &format!("{}--b--", part(&format!("{named}\"file"))),
                ),
                422,
            ),
            (
                "a boundary without quotes",
                form("; boundary====b===", "--===b===--"),
                415,
            ),
            (
                "a path for a name",
                form(
                    "; boundary=b",
                    &format!(
                        "{}--b--",
                        part(&format!("{named}\"file\"; filename=\"../../etc/passwd\""))
                    ),
                ),
                415,
            ),
            (
                "JSON",
                request(
                    &format!("POST {FILES}"),
                    "Content-Type: application/json\r\n",
                    "{}",
                ),
                415,
            ),
            (
                "a huge form",
                form("; boundary=b", &"x".repeat(4_000_000)),
                413,
            ),
        ])
        .await;
    assert!(target.cloud.sandbox.requests().is_empty());
    target.expect_healthy().await;
}

async fn odd_notifications_get_the_fitting_answer(engine: Engine) {
    let target = Target::start(engine).await;
    let signed = |body: &str| {
        let signature = sign(body.as_bytes(), CLIENT_SECRET);
        let headers = format!(
            "x-liveperson-account-id: {ACCOUNT}\r\nx-liveperson-client-id: {CLIENT_ID}\r\nx-liveperson-signature: {signature}\r\n"
        );
        request(&format!("POST /webhooks/{ACCOUNT}"), &headers, body)
    };
    let unsigned = |headers: &str| request(&format!("POST /webhooks/{ACCOUNT}"), headers, "{}");
    let change = |conversation: &str| {
        format!(
            r#"{{"type": "ms.MessagingEventNotification", "body": {{"changes": [{{"conversationId": {conversation}, "event": {{}}}}]}}}}"#
        )
    };
    let odd = "x".repeat(100_000);

    target
        .expect_each([
            ("no signature", unsigned(""), 401),
            (
                "an empty signature",
                unsigned("x-liveperson-signature: \r\n"),
                401,
            ),
            (
                "a signature of noise",
                unsigned(&format!("x-liveperson-signature: sha256={odd}\r\n")),
                401,
            ),
            (
                "a signature that is no text",
                unsigned("x-liveperson-signature: sha1=\u{ff}\r\n"),
                401,
            ),
            (
                "an account of noise",
                request(&format!("POST /webhooks/{}", "x".repeat(10_000)), "", "{}"),
                401,
            ),
            (
                "an account that is no UTF-8",
                request("POST /webhooks/%ff", "", "{}"),
                400,
            ),
            (
                "an account with NUL",
                request("POST /webhooks/%00", "", "{}"),
                401,
            ),
            (
                "a huge body, not signed",
                request(
                    &format!("POST /webhooks/{ACCOUNT}"),
                    "",
                    &"x".repeat(5_000_000),
                ),
                401,
            ),
            ("a huge body", signed(&"x".repeat(5_000_000)), 413),
            ("nothing", signed(""), 200),
            ("null", signed("null"), 200),
            ("no object", signed("[1]"), 200),
            ("levels", signed(&"[".repeat(10_000)), 200),
            ("NUL", signed("\0"), 200),
            (
                "a member twice",
                signed(r#"{"type": "a", "type": "b"}"#),
                200,
            ),
            (
                "another type",
                signed(r#"{"type": "\u0000\u202e", "body": {"a": "\u0000"}}"#),
                200,
            ),
            (
                "a body of another kind",
                signed(r#"{"type": "ms.MessagingEventNotification", "body": 7}"#),
                200,
            ),
            ("a conversation that is a number", signed(&change("7")), 200),
            (
                "a conversation with NUL",
                signed(&change(r#""a\u0000""#)),
                200,
            ),
            (
                "a conversation of noise",
                signed(&change(&format!("{odd:?}"))),
                200,
            ),
        ])
        .await;
    target.expect_healthy().await;
}

async fn unusual_characters_are_kept_unchanged(engine: Engine) {
    let app = TestApp::start(engine).await;
    // In turn: right to left, override, invisible, joined, private use, not assigned, beyond 16
    // bits, not normalized.
    for (user, text) in [
        ("\u{202e}olleh", "\u{202e}olleh\u{202c}"),
        ("a\u{200b}\u{200d}\u{feff}b", "\u{feff}a\u{200b}b"),
        ("\u{2028}\u{2029}", "a\u{2028}b\u{2029}c"),
        ("\u{e000}\u{10ffff}\u{fffe}", "\u{fffd}\u{10ffff}"),
        ("e\u{301}", "e\u{301} \u{e9}"),
        ("%252F", "%00 %2F \\u0000"),
        ("<script>", "<script>'\";--{{7*7}}${x}"),
    ] {
        let name = user.bytes().map(|byte| format!("%{byte:02X}"));
        let name = name.collect::<Vec<_>>().concat();
        let path = format!("/v1/users/{name}/messages");

        let sent = app.sms.post(&path, json!({"text": text})).await.expect(201);

        assert_eq!(sent["user_id"], user);
        let body = app.cloud.bodies(Operation::Send).pop().unwrap();
        assert_eq!(body["body"]["event"]["message"], text, "{body}");
        let shown = app.sms.get(&format!("/v1/users/{name}")).await.expect(200);
        assert_eq!(shown["user_id"], user);
    }
    let tab = app.sms.say("ada", "\u{1}\u{8}\t\r\n\u{7f}\u{85}").await;
    tab.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_delay_other_callers() {
    let target = Target::start(Engine::Sqlite).await;
    let mut silent = Vec::new();
    for n in 0..300 {
        let mut connection = Connection::open(&target.sms).await.unwrap();
        // One third sends nothing, one third half a head, and one third half a body.
        if n % 3 > 0 {
            connection
                .write("POST /v1/users/ada/messages HTTP/1.1\r\n")
                .await;
        }
        if n % 3 > 1 {
            let headers = format!(
                "Host: b\r\nAuthorization: Bearer {SMS_KEY}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
            );
            connection.write(&headers).await;
        }
        silent.push(connection);
    }

    timeout(ANSWER_LIMIT, target.expect_healthy())
        .await
        .unwrap();

    drop(silent);
    target.expect_healthy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn key_guessing_does_not_delay_other_callers() {
    let target = Target::start(Engine::Sqlite).await;
    let mut guessing = JoinSet::new();
    for guesser in 0..50 {
        let guess = target.sms.with_key(&format!("guess-{guesser}"));
        guessing.spawn(async move {
            let mut refused = Vec::<Reply>::new();
            for n in 0..5 {
                let path = format!("/v1/users/{n}/messages");
                let request = guess.request(Method::POST, &path);
                refused.push(send(request.body(r#"{"text": "hello"}"#)).await);
            }
            refused
        });
    }

    timeout(ANSWER_LIMIT, target.expect_healthy())
        .await
        .unwrap();

    let refused = guessing.join_all().await;
    let refused: Vec<_> = refused.into_iter().flatten().collect();
    assert_eq!(refused.len(), 250);
    for reply in refused {
        assert_eq!(reply.headers["www-authenticate"], "Bearer");
        reply.expect_problem(401, "unauthorized");
    }
    target.expect_healthy().await;
}
