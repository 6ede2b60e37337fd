//! Tests of the bounds at their real sizes, without sockets.

use std::time::Duration;

use axum::body::to_bytes;
use axum::http::StatusCode;
use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, sleep};

use super::super::bounds::JSON_LIMIT;
use super::super::extract::{self, ReadError};
use super::*;

const MESSAGES: &str = "/v1/users/{user_id}/messages";

const SMS: Holder<'static> = Holder {
    channel: "sms",
    user: None,
};
const APP: Holder<'static> = Holder {
    channel: "app",
    user: None,
};
const MALLORY: Holder<'static> = Holder {
    channel: "sms",
    user: Some("mallory"),
};

/// Creates the bounds of a service with two channels.
fn load() -> (Load, CancellationToken) {
    let stopping = CancellationToken::new();
    (Load::new(2, 2, stopping.clone()), stopping)
}

/// Takes permits until none is left; returns them with the problem of the first request without
/// one.
fn fill(load: &Load, holder: Holder<'_>) -> (Vec<Permit>, Problem) {
    let mut permits = Vec::new();
    loop {
        match load.admit(holder, MESSAGES) {
            Ok(permit) => permits.extend(permit),
            Err(problem) => return (permits, problem),
        }
    }
}

/// Makes a body whose last piece never arrives, after these bytes.
fn unfinished(bytes: usize) -> Body {
    let begun = stream::iter([Ok::<_, std::convert::Infallible>(vec![b'x'; bytes])]);
    Body::from_stream(begun.chain(stream::pending()))
}

/// Makes a body that arrives byte by byte, with a `pause` before each.
fn trickling(pause: Duration) -> Body {
    let bytes = stream::unfold((), move |()| async move {
        sleep(pause).await;
        Some((Ok::<_, std::convert::Infallible>("x"), ()))
    });
    Body::from_stream(bytes)
}

/// Reads a request's body for as long as it arrives.
async fn read(permit: &Permit, body: Body) {
    let arriving = permit.limit_body(body);
    let reading = extract::read_to_end(arriving, JSON_LIMIT);
    // The missing end of the body is not waited for.
    drop(tokio::time::timeout(Duration::from_millis(1), reading).await);
}

fn assert_problem(problem: &Problem, code: &str, text: &str) {
    assert_eq!(problem.code().as_str(), code);
    assert!(format!("{problem:?}").contains(text), "{problem:?}");
}

#[test]
fn a_request_over_the_bound_is_refused_until_another_is_answered() {
    let (load, _) = load();

    let (mut of_sms, refused) = fill(&load, SMS);
    assert_eq!(of_sms.len(), MAX_REQUESTS * 3 / 4);
    assert_problem(&refused, "overloaded", "of this channel");
    let (of_app, refused) = fill(&load, APP);
    assert_eq!(of_app.len(), MAX_REQUESTS / 4);
    assert_problem(&refused, "overloaded", "Too many requests are");
    let rendered = refused.render("abc");
    assert_eq!(rendered.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rendered.headers()["retry-after"], "1");

    // Readers and the Cloud have permits of their own.
    assert!(load.admit(SMS, "/v1/events").unwrap().is_none());
    assert!(load.notification("1").is_ok());
    of_sms.pop();
    assert!(load.admit(APP, MESSAGES).is_ok());
    drop((of_sms, of_app));
    assert_eq!(load.0.requests.in_use(), 0);
}

#[test]
fn a_user_has_a_small_share_of_the_request_bound() {
    let (load, _) = load();

    let (permits, refused) = fill(&load, MALLORY);

    assert_eq!(permits.len(), MAX_REQUESTS_OF_USER);
    assert_problem(&refused, "overloaded", "for this user");
    assert!(load.admit(SMS, MESSAGES).is_ok());
}

#[test]
fn notifications_have_their_own_bounds() {
    let (load, _) = load();

    let permits: Vec<_> = std::iter::from_fn(|| load.notification("1").ok()).collect();
    assert_eq!(permits.len(), MAX_NOTIFICATIONS * 3 / 4);
    let of_other: Vec<_> = std::iter::from_fn(|| load.notification("2").ok()).collect();
    assert_eq!(of_other.len(), MAX_NOTIFICATIONS / 4);

    let refused = load.notification("2").unwrap_err();
    assert_problem(&refused, "too-many-notifications", "");
    assert_eq!(refused.render("abc").headers()["retry-after"], "1");
    assert!(load.admit(SMS, MESSAGES).is_ok());
    // A notification takes no permit while it arrives, because its signature may be wrong.
    assert!(load.notification_body("1").is_ok());
}

#[tokio::test(start_paused = true)]
async fn request_bodies_count_by_the_bytes_received() {
    let (load, _) = load();
    let mut arriving = Vec::new();
    for _ in 0..MAX_BYTES / JSON_LIMIT * 3 / 4 {
        let permit = load.admit(SMS, MESSAGES).unwrap().unwrap();
        // The length that a request declares does not count.
        assert_eq!(
            load.0.bodies.in_use(),
            arriving.len() * JSON_LIMIT / UNIT_BYTES
        );
        read(&permit, unfinished(JSON_LIMIT)).await;
        arriving.push(permit);
    }
    assert_eq!(load.0.bodies.in_use(), MAX_BYTES / UNIT_BYTES * 3 / 4);

    let permit = load.admit(SMS, MESSAGES).unwrap().unwrap();
    let one_more = extract::read_to_end(permit.limit_body("x".into()), JSON_LIMIT).await;
    assert_eq!(one_more, Err(ReadError::Broken));
    assert_problem(
        &permit.cut().unwrap(),
        "overloaded",
        "of this channel's requests",
    );
    let permit = load.admit(APP, MESSAGES).unwrap().unwrap();
    let of_another = extract::read_to_end(permit.limit_body("x".into()), JSON_LIMIT).await;
    assert_eq!(of_another.unwrap(), "x");
    assert!(permit.cut().is_none());
    // Neither an empty body nor a file counts here.
    let permit = load.admit(SMS, MESSAGES).unwrap().unwrap();
    assert!(permit.limit_body(Body::empty()).is_end_stream());
    let file = load.admit(SMS, "/v1/users/{user_id}/files").unwrap();
    read(&file.unwrap(), unfinished(JSON_LIMIT)).await;
    drop(arriving);
    assert_eq!(load.0.bodies.in_use(), 1);
}

#[tokio::test(start_paused = true)]
async fn notification_bodies_count_by_the_bytes_received() {
    let (load, _) = load();
    let size = 1024 * 1024;
    let mut arriving = Vec::new();
    for account in ["1", "2"] {
        for _ in 0..MAX_BYTES / size {
            let permit = load.notification_body(account).unwrap();
            let reading = extract::read_to_end(permit.limit_body(unfinished(size)), 2 * size);
            drop(tokio::time::timeout(Duration::from_millis(1), reading).await);
            arriving.push(permit);
        }
    }

    let refused = arriving.iter().filter_map(Permit::cut);
    for problem in refused.clone() {
        assert_problem(&problem, "too-many-notifications", "");
    }
    assert_eq!(refused.count(), MAX_BYTES / size);
    assert_eq!(load.0.notification_bodies.in_use(), MAX_BYTES / UNIT_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_too_slowly_is_cut_off() {
    let (load, _) = load();
    let second = Duration::from_secs(1);
    let channel = || load.admit(SMS, MESSAGES).unwrap().unwrap();
    let file = || load.admit(SMS, "/v1/users/{user_id}/files");
    for (permit, body, after) in [
        (channel(), unfinished(0), 5 * second),
        (channel(), unfinished(10 * 1024), 15 * second),
        (channel(), trickling(second / 2), 5 * second),
        (file().unwrap().unwrap(), unfinished(80 * 1024), 15 * second),
        (
            load.notification_body("1").unwrap(),
            unfinished(100_000),
            5 * second,
        ),
    ] {
        let begun = Instant::now();

        let read = extract::read_to_end(permit.limit_body(body), JSON_LIMIT).await;

        assert_eq!(read, Err(ReadError::Broken));
        let elapsed = begun.elapsed();
        assert!(
            elapsed >= after && elapsed < after + second,
            "{elapsed:?}, {after:?}"
        );
        let cut = permit.response_or_cut(StatusCode::BAD_REQUEST.into_response());
        let problem = cut.extensions().get::<Problem>().unwrap();
        assert_eq!(problem.code().as_str(), "request-timeout");
        assert_eq!(problem.render("abc").headers()["connection"], "close");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_above_the_minimum_rate_may_take_long_to_arrive() {
    let (load, _) = load();
    let permit = load.admit(SMS, MESSAGES).unwrap().unwrap();
    let pieces = stream::unfold(0, async |count| {
        sleep(Duration::from_secs(1)).await;
        let piece = (count < 30).then(|| Ok::<_, std::convert::Infallible>(vec![b'x'; 1024]));
        piece.map(|piece| (piece, count + 1))
    });

    let read = extract::read_to_end(permit.limit_body(Body::from_stream(pieces)), JSON_LIMIT).await;

    assert_eq!(read.unwrap().len(), 30 * 1024);
    assert!(permit.cut().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stop_cuts_off_bodies_that_still_arrive() {
    let second = Duration::from_secs(1);
    for (is_notification, after) in [(false, 5 * second), (true, second)] {
        let (load, stopping) = load();
        let permit = if is_notification {
            load.notification_body("1").unwrap()
        } else {
            load.admit(SMS, MESSAGES).unwrap().unwrap()
        };
        let arriving = permit.limit_body(unfinished(100 * 1024));
        let begun = Instant::now();
        let stop = async {
            sleep(second).await;
            stopping.cancel();
        };

        let (read, ()) = tokio::join!(extract::read_to_end(arriving, JSON_LIMIT), stop);

        assert_eq!(read, Err(ReadError::Broken));
        assert_eq!(begun.elapsed().as_secs(), (second + after).as_secs());
        let code = if is_notification {
            "too-many-notifications"
        } else {
            "overloaded"
        };
        assert_problem(&permit.cut().unwrap(), code, "");
    }
}

#[tokio::test]
async fn a_response_keeps_its_permit_until_it_is_written() {
    let (load, _) = load();
    let permit = load.admit(SMS, MESSAGES).unwrap().unwrap();

    let answer = permit.attach_to("ok".into_response());

    assert_eq!(load.0.requests.in_use(), 1);
    assert_eq!(answer.body().size_hint().exact(), Some(2));
    assert_eq!(to_bytes(answer.into_body(), 10).await.unwrap(), "ok");
    assert_eq!(load.0.requests.in_use(), 0);
}

#[test]
fn event_pages_count_by_their_bytes_and_have_shares() {
    const PAGE: usize = 1024 * 1024;
    let (load, _) = load();
    let pages =
        |holder| -> Vec<_> { std::iter::from_fn(|| load.page(holder, PAGE).ok()).collect() };

    let of_mallory = pages(MALLORY);
    assert_eq!(of_mallory.len(), MAX_PAGE_BYTES_OF_USER / PAGE);
    assert_problem(
        &page_limit_problem(load.page(MALLORY, 1).unwrap_err()),
        "overloaded",
        "for this user",
    );
    let of_sms = pages(SMS);
    assert_eq!(of_mallory.len() + of_sms.len(), MAX_BYTES / PAGE * 3 / 4);
    assert_problem(
        &page_limit_problem(load.page(SMS, 1).unwrap_err()),
        "overloaded",
        "of this channel",
    );
    let of_app = pages(APP);
    assert_eq!(of_app.len(), MAX_BYTES / PAGE / 4);
    assert_problem(
        &page_limit_problem(load.page(APP, 1).unwrap_err()),
        "overloaded",
        "to readers.",
    );
    assert!(load.page(SMS, 0).is_ok());
    drop((of_mallory, of_sms, of_app));
    // A page that is larger than a share is let in alone.
    let large = load.page(MALLORY, MAX_BYTES).unwrap();
    assert!(load.page(MALLORY, 1).is_err());
    drop(large);
    assert_eq!(load.0.pages.in_use(), 0);
}
