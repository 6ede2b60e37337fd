//! The events of a channel, read page by page, by long polling, or as a stream. A channel misses
//! none of its events, and sees no events of another channel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use liveperson_bridge::clock::Clock as _;
use liveperson_bridge::types::ids::ChannelId;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::changes::append;
use crate::support::channel::send;
use crate::support::configuration::APP_KEY;
use crate::support::database::Engine;
use crate::support::events::{Block, Stream, append_texts, message, texts, user};

on_both_engines!(
    events_are_read_page_by_page_as_they_were_written,
    a_channel_reads_only_its_own_events,
    a_waiting_reader_gets_new_events_or_an_empty_page,
    a_stream_sends_stored_events_and_then_new_ones,
    a_stream_resumes_after_the_last_event_of_its_reader,
    a_stream_opens_at_once_without_events,
    the_accept_header_chooses_between_a_page_and_a_stream,
    a_stream_gets_events_of_another_replica_at_once,
    removed_events_are_reported_as_a_gap,
    a_stop_ends_waiting_readers,
    a_reader_misses_no_event_while_others_write,
    invalid_event_parameters_are_refused_by_name,
    a_cursor_that_was_never_issued_is_refused,
);

async fn events_are_read_page_by_page_as_they_were_written(engine: Engine) {
    let app = TestApp::start(engine).await;
    let empty = app.sms.get("/v1/events").await.expect(200);
    assert_eq!(empty["events"], json!([]));
    let odd = "\u{1}\" 👋 \\u0000 </script>";

    let written = append_texts(&app, "sms", &["one", odd, "three"]).await;

    let from_empty = format!("/v1/events?after={}", empty["next"].as_str().unwrap());
    let all = app.sms.get(&from_empty).await.expect(200);
    assert_eq!(texts(&all["events"]), ["one", odd, "three"]);
    assert_eq!(all.get("gap"), None);
    let first = app.sms.get("/v1/events?limit=2").await.expect(200);
    assert_eq!(texts(&first["events"]), ["one", odd]);
    let next = first["next"].as_str().unwrap();
    let path = format!("/v1/events?after={next}&limit=2");
    let second = app.sms.get(&path).await.expect(200);
    assert_eq!(texts(&second["events"]), ["three"]);
    assert_eq!(second["next"], all["next"]);
    // The page contains each event byte for byte.
    let request = app.sms.request(Method::GET, "/v1/events");
    let text = request.send().await.unwrap().text().await.unwrap();
    for event in &written {
        assert!(text.contains(&event.body), "{text}");
    }
    let at_the_end = format!("/v1/events?after={}", second["next"].as_str().unwrap());
    let none = app.sms.get(&at_the_end).await.expect(200);
    assert_eq!(none, json!({"events": [], "next": second["next"]}));
}

async fn a_channel_reads_only_its_own_events(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["for sms"]).await;
    append_texts(&app, "app", &["for app"]).await;

    let sms = app.sms.get("/v1/events").await.expect(200);
    let other = app.sms.with_key(APP_KEY);
    let page = other.get("/v1/events").await.expect(200);
    let mut stream = Stream::open(&other, "", None).await;
    let (_, streamed) = stream.next_event().await;

    assert_eq!(texts(&sms["events"]), ["for sms"]);
    assert_eq!(texts(&page["events"]), ["for app"]);
    assert!(streamed.contains("for app"), "{streamed}");
}

async fn a_waiting_reader_gets_new_events_or_an_empty_page(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["old"]).await;
    let old = app.sms.get("/v1/events?wait=30").await.expect(200);
    assert_eq!(texts(&old["events"]), ["old"]);
    let after = format!("/v1/events?after={}", old["next"].as_str().unwrap());

    let started = Instant::now();
    let path = format!("{after}&wait=30");
    let (reply, _) = tokio::join!(app.sms.get(&path), append_texts(&app, "sms", &["new"]));
    let read = reply.expect(200);
    let past_the_end = format!("/v1/events?after={}&wait=1", read["next"].as_str().unwrap());
    let waited = Instant::now();
    let none = app.sms.get(&past_the_end).await.expect(200);

    assert_eq!(texts(&read["events"]), ["new"]);
    assert!(waited - started < Duration::from_secs(15));
    assert_eq!(none, json!({"events": [], "next": read["next"]}));
    assert!(waited.elapsed() >= Duration::from_secs(1));
}

async fn a_stream_sends_stored_events_and_then_new_ones(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut written = append_texts(&app, "sms", &["one", "two"]).await;

    let mut stream = Stream::open(&app.sms, "?limit=1", None).await;
    let headers = stream.response.headers().clone();
    let mut read = vec![stream.next_event().await, stream.next_event().await];
    for text in ["three", "four"] {
        written.extend(append_texts(&app, "sms", &[text]).await);
        read.push(stream.next_event().await);
    }

    assert_eq!(headers["content-type"], "text/event-stream");
    assert_eq!(headers["cache-control"], "no-store");
    assert!(headers.contains_key("x-request-id"));
    let bodies: Vec<_> = read.iter().map(|(_, data)| data).collect();
    let expected: Vec<_> = written.iter().map(|event| &event.body).collect();
    assert_eq!(bodies, expected);
    let ids: BTreeSet<_> = read.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 4);
}

async fn a_stream_resumes_after_the_last_event_of_its_reader(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["one", "two", "three"]).await;
    let mut stream = Stream::open(&app.sms, "", None).await;
    let (first, _) = stream.next_event().await;
    let (second, _) = stream.next_event().await;
    drop(stream);

    let mut again = Stream::open(&app.sms, "", Some(&first)).await;
    let page = app.sms.get(&format!("/v1/events?after={first}")).await;

    assert!(again.next_event().await.1.contains("two"));
    assert!(again.next_event().await.1.contains("three"));
    assert_eq!(texts(&page.expect(200)["events"]), ["two", "three"]);
    // A client library repeats the whole request. It adds the last event that it saw, as a header
    // or as a parameter.
    for (query, header, next) in [
        (format!("?after={first}"), Some(&*second), "three"),
        (format!("?after={first}"), Some(""), "two"),
        (
            format!("?after={first}&lastEventId={second}"),
            None,
            "three",
        ),
        (
            format!("?lastEventId={second}&after={first}"),
            Some(""),
            "three",
        ),
        (format!("?lastEventId={first}"), Some(&*second), "three"),
        (format!("?&lastEventId={second}"), None, "three"),
        (format!("?after={second}&lastEventId="), None, "three"),
        ("?after=&lastEventId=".to_owned(), Some(""), "one"),
    ] {
        let mut stream = Stream::open(&app.sms, &query, header).await;
        let (_, data) = stream.next_event().await;
        assert!(data.contains(next), "{query} {header:?}: {data}");
    }
}

async fn a_stream_opens_at_once_without_events(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["one"]).await;
    let page = app.sms.get("/v1/events").await.expect(200);
    let at_the_end = format!("?after={}", page["next"].as_str().unwrap());

    for query in ["", &at_the_end] {
        let started = Instant::now();
        // `open` returns once the first comment of the stream has arrived.
        let mut stream = Stream::open(&app.sms, query, None).await;
        assert!(started.elapsed() < Duration::from_secs(10), "{query}");
        if query.is_empty() {
            stream.next_event().await;
            let retry = stream.retry().unwrap();
            assert!((1000..=3000).contains(&retry), "{retry}");
        }
    }
}

async fn the_accept_header_chooses_between_a_page_and_a_stream(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["one"]).await;

    for (accept, format) in [
        (vec![], "application/json"),
        (vec!["text/event-stream"], "text/event-stream"),
        (
            vec!["text/event-stream;q=0, application/json"],
            "application/json",
        ),
        (
            vec!["application/json, text/event-stream;q=0.1"],
            "application/json",
        ),
        (
            vec!["application/x-text/event-stream-thing"],
            "application/json",
        ),
        (vec!["text/event-stream, */*"], "text/event-stream"),
        (vec!["text/html, */*;q=0.8"], "application/json"),
        (vec!["application/xml"], "application/json"),
        (
            vec!["application/json;q=0.5", "TEXT/EVENT-STREAM"],
            "text/event-stream",
        ),
    ] {
        let mut request = app.sms.request(Method::GET, "/v1/events?limit=1");
        for line in &accept {
            request = request.header("accept", *line);
        }
        let response = request.send().await.unwrap();

        assert_eq!(response.status(), 200, "{accept:?}");
        assert_eq!(response.headers()["content-type"], format, "{accept:?}");
    }
}

async fn a_stream_gets_events_of_another_replica_at_once(engine: Engine) {
    let app = TestApp::start(engine).await;
    // An embedded database belongs to one process.
    let other = match engine {
        Engine::Postgres => {
            Some(TestApp::start_with(app.cloud.clone(), app.database.clone()).await)
        }
        Engine::Sqlite => None,
    };
    let writer = other.as_ref().unwrap_or(&app);
    let mut stream = Stream::open(&app.sms, "", None).await;

    let mut times = Vec::new();
    for number in 0..5 {
        append_texts(writer, "sms", &[&number.to_string()]).await;
        times.push(stream.time_to_next().await);
    }

    // A stream that gets no wake-up polls after one second at the earliest.
    let best = times.iter().min().unwrap();
    assert!(*best < Duration::from_millis(500), "{times:?}");
}

async fn removed_events_are_reported_as_a_gap(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "sms", &["one", "two", "three"]).await;
    let first = app.sms.get("/v1/events?limit=1").await.expect(200);
    let third = app.sms.get("/v1/events?limit=3").await.expect(200);
    let channel: ChannelId = "sms".parse().unwrap();
    let now = app.cloud.clock.now();
    let later = now + chrono::TimeDelta::seconds(1);

    let removed = app.store().remove_events(&channel, later, later, 3).await;
    append_texts(&app, "sms", &["four"]).await;

    assert_eq!(removed.unwrap(), 3);
    let after = |page: &Value| format!("?after={}", page["next"].as_str().unwrap());
    let path = format!("/v1/events{}", after(&first));
    let with_gap = app.sms.get(&path).await.expect(200);
    assert_eq!(with_gap["gap"], true);
    assert_eq!(texts(&with_gap["events"]), ["four"]);
    for whole in [String::new(), after(&third)] {
        let page = app.sms.get(&format!("/v1/events{whole}")).await;
        let page = page.expect(200);
        assert_eq!(page.get("gap"), None, "{whole}");
        assert_eq!(texts(&page["events"]), ["four"]);
    }
    let mut stream = Stream::open(&app.sms, &after(&first), None).await;
    let Some(Block::Event { id, kind, data }) = stream.next().await else {
        panic!("no gap is told");
    };
    assert_eq!(kind, "gap");
    let data: Value = serde_json::from_str(&data).unwrap();
    assert_eq!(
        data,
        json!({"after": first["next"], "oldest": third["next"]})
    );
    assert_eq!(third["next"], id);
    assert!(stream.next_event().await.1.contains("four"));
    // A reader that has received the gap does not receive it again.
    let mut resumed = Stream::open(&app.sms, "", Some(&id)).await;
    let Some(Block::Event { kind, .. }) = resumed.next().await else {
        panic!("no event comes");
    };
    assert_eq!(kind, "message.created");
}

async fn a_stop_ends_waiting_readers(engine: Engine) {
    let app = TestApp::start(engine).await;
    let mut stream = Stream::open(&app.sms, "", None).await;
    let sms = app.sms.clone();
    let waiting = tokio::task::spawn(async move { sms.get("/v1/events?wait=30").await });
    // Once a few other requests are answered, that one is waiting.
    for _ in 0..5 {
        let request = app.sms.request(Method::GET, "/v1/users/nobody");
        send(request).await.expect_problem(404, "user-not-found");
    }

    let (_, _, in_time) = app.stop().await;

    assert!(in_time);
    assert_eq!(stream.next().await, None);
    let reply = waiting.await.unwrap().expect(200);
    assert_eq!(reply["events"], json!([]));
}

async fn a_reader_misses_no_event_while_others_write(engine: Engine) {
    const WRITERS: usize = 4;
    const EVENTS: usize = 30;
    let app = TestApp::start(engine).await;
    let ada = user(app.store(), "sms", "ada").await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, now) = (app.store().clone(), app.cloud.clock.now());
        writers.spawn(async move {
            for number in 0..EVENTS {
                let event = message("sms", ada, "ada", &format!("{writer}-{number}"));
                append(&store, &[event], now).await;
            }
        });
    }

    let mut stream = Stream::open(&app.sms, "", None).await;
    let mut paged = Vec::new();
    let mut path = "/v1/events?limit=7&wait=30".to_owned();
    while paged.len() < WRITERS * EVENTS {
        let page = app.sms.get(&path).await.expect(200);
        paged.extend(texts(&page["events"]).into_iter().map(str::to_owned));
        let next = page["next"].as_str().unwrap();
        path = format!("/v1/events?limit=7&wait=30&after={next}");
    }
    let mut streamed = Vec::new();
    while streamed.len() < WRITERS * EVENTS {
        let (_, data) = stream.next_event().await;
        let event: Value = serde_json::from_str(&data).unwrap();
        streamed.push(event["data"]["text"].as_str().unwrap().to_owned());
    }

    writers.join_all().await;
    assert_eq!(paged, streamed);
    let different: BTreeSet<_> = paged.iter().collect();
    assert_eq!(different.len(), WRITERS * EVENTS);
    for writer in 0..WRITERS {
        let of_writer = paged
            .iter()
            .filter(|text| text.starts_with(&format!("{writer}-")));
        let expected: Vec<_> = (0..EVENTS).map(|n| format!("{writer}-{n}")).collect();
        assert_eq!(of_writer.cloned().collect::<Vec<_>>(), expected);
    }
}

async fn invalid_event_parameters_are_refused_by_name(engine: Engine) {
    let app = TestApp::start(engine).await;

    for (query, pointer) in [
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        ("limit=-1", "/limit"),
        ("limit=%2B1", "/limit"),
        ("limit=1.5", "/limit"),
        ("limit=", "/limit"),
        ("limit=99999999999999999999", "/limit"),
        ("wait=31", "/wait"),
        ("wait=soon", "/wait"),
        ("after=1", "/after"),
        ("after=c01", "/after"),
        ("after=c%00", "/after"),
        ("limit=1&limit=1", "/limit"),
        ("cursor=c0", "/cursor"),
        ("a/b~=c0", "/a~1b~0"),
        ("lastEventId=1", "/lastEventId"),
        // `lastEventId` is for streams only; a page takes `after`.
        ("lastEventId=c0", "/lastEventId"),
        ("lasteventid=c0", "/lasteventid"),
    ] {
        let refused = app.sms.get(&format!("/v1/events?{query}")).await;

        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
    }
    let unreadable = app.sms.get("/v1/events?after=%ff").await;
    unreadable.expect_problem(400, "malformed-request");
    for junk in [&b"evt_1"[..], b"c01", b",", b"c\xe9"] {
        let request = app.sms.request(Method::GET, "/v1/events");
        let request = request
            .header("accept", "text/event-stream")
            .header("last-event-id", junk);
        let problem = send(request).await.expect_problem(422, "invalid-request");
        assert_eq!(
            problem["errors"][0]["pointer"], "/Last-Event-ID",
            "{junk:?}"
        );
    }
    for good in [
        "",
        "?",
        "?limit=1&wait=0",
        "?limit=1000",
        "?after=",
        "?after=&lastEventId=",
    ] {
        app.sms.get(&format!("/v1/events{good}")).await.expect(200);
    }
}

async fn a_cursor_that_was_never_issued_is_refused(engine: Engine) {
    let app = TestApp::start(engine).await;
    append_texts(&app, "app", &["one", "two"]).await;
    append_texts(&app, "sms", &["one"]).await;
    let other = app.sms.with_key(APP_KEY);
    let page = other.get("/v1/events").await.expect(200);
    let beyond = page["next"].as_str().unwrap();

    for cursor in [beyond, "cffffffffffffffff"] {
        let path = format!("/v1/events?after={cursor}&wait=30");
        let refused = app.sms.get(&path).await;
        let problem = refused.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], "/after");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("never issued"), "{detail}");
    }
    // For a stream, the error names the parameter or header that took precedence.
    for (query, header, pointer) in [
        ("?after=c0".to_owned(), Some(beyond), "/Last-Event-ID"),
        (
            format!("?after=c0&lastEventId={beyond}"),
            None,
            "/lastEventId",
        ),
        (format!("?after={beyond}"), Some(""), "/after"),
    ] {
        let request = app.sms.request(Method::GET, &format!("/v1/events{query}"));
        let mut request = request.header("accept", "text/event-stream");
        if let Some(header) = header {
            request = request.header("last-event-id", header);
        }
        let problem = send(request).await.expect_problem(422, "invalid-request");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_stream_is_kept_alive_by_a_comment() {
    let app = TestApp::start(Engine::Sqlite).await;
    let mut stream = Stream::open(&app.sms, "", None).await;
    let started = Instant::now();

    let block = stream.next().await;

    assert_eq!(block, Some(Block::Comment));
    let silence = started.elapsed();
    assert!(silence >= Duration::from_secs(7), "{silence:?}");
}
