//! The bounds at their real numbers, without sockets.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use super::super::around::{Around, Next};
use super::*;

/// A router whose requests to `/waits` are under way until the bell rings, and how many have come so far.
fn router(load: &Load, bell: &Arc<Notify>) -> Router {
    let bell = Arc::clone(bell);
    let waits = async move || bell.notified().await;
    let load = load.clone();
    let admit = move |mut request: Request, next: Next| {
        let place = load.admit(&mut request);
        async {
            Ok(match place {
                Ok(Some(place)) => place.held_by(next.run(request).await),
                Ok(None) => next.run(request).await,
                Err(problem) => problem.into_response(),
            })
        }
    };
    Router::new()
        .route("/waits", post(waits.clone()))
        .route("/webhooks/{account_id}", post(waits))
        .route("/v1/users/{user_id}/files", post(async || "taken"))
        .route("/v1/events", get(async || "events"))
        .route("/", get(async || "ok"))
        .layer(Around::new(admit))
}

fn request(path: &str, body_bytes: usize) -> Request {
    let request = Request::builder()
        .method(if body_bytes > 0 { "POST" } else { "GET" })
        .uri(path)
        .header(CONTENT_LENGTH, body_bytes);
    request.body(Body::empty()).unwrap()
}

async fn status(router: &Router, request: Request) -> StatusCode {
    router.clone().oneshot(request).await.unwrap().status()
}

/// Begins so many requests, and returns when all of them are in.
async fn begin(
    router: &Router,
    path: &'static str,
    body_bytes: usize,
    count: usize,
    free: impl Fn() -> usize,
) -> JoinSet<StatusCode> {
    let mut under_way = JoinSet::new();
    let before = free();
    for _ in 0..count {
        let router = router.clone();
        under_way.spawn(async move { status(&router, request(path, body_bytes)).await });
    }
    while before - free() < count {
        tokio::task::yield_now().await;
    }
    under_way
}

async fn finish(bell: &Notify, under_way: JoinSet<StatusCode>) {
    bell.notify_waiters();
    let statuses = under_way.join_all().await;
    assert!(statuses.iter().all(|status| *status == StatusCode::OK));
}

#[tokio::test]
async fn one_request_more_than_fit_is_refused_until_another_is_answered() {
    let (load, bell) = (Load::default(), Arc::default());
    let router = router(&load, &bell);
    let free = || load.0.channels.requests.available_permits();

    let under_way = begin(&router, "/waits", 1, REQUESTS, free).await;

    let refused = router.clone().oneshot(request("/", 0)).await.unwrap();
    let problem = refused.extensions().get::<Problem>().unwrap();
    let rendered = problem.render("abc");
    assert_eq!(problem.code().as_str(), "overloaded");
    assert_eq!(rendered.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(rendered.headers()["retry-after"], "1");
    // Readers have places of their own.
    let reads = status(&router, request("/v1/events", 0)).await;
    assert_eq!(reads, StatusCode::OK);
    finish(&bell, under_way).await;
    assert_eq!(status(&router, request("/", 0)).await, StatusCode::OK);
    assert_eq!(free(), REQUESTS);
}

#[tokio::test]
async fn notifications_have_bounds_of_their_own() {
    let (load, bell) = (Load::default(), Arc::default());
    let router = router(&load, &bell);
    let free = || load.0.cloud.requests.available_permits();

    let under_way = begin(&router, "/webhooks/1", 1, NOTIFICATIONS, free).await;

    let refused = router.clone().oneshot(request("/webhooks/1", 1));
    let refused = refused.await.unwrap();
    let problem = refused.extensions().get::<Problem>().unwrap();
    assert_eq!(problem.code().as_str(), "too-many-notifications");
    assert_eq!(problem.render("abc").headers()["retry-after"], "1");
    assert_eq!(status(&router, request("/", 0)).await, StatusCode::OK);
    finish(&bell, under_way).await;
    assert_eq!(free(), NOTIFICATIONS);
}

#[tokio::test]
async fn bodies_count_by_what_they_may_take_up() {
    let (load, bell) = (Load::default(), Arc::default());
    let router = router(&load, &bell);
    let free = || load.0.channels.requests.available_permits();

    let under_way = begin(&router, "/waits", JSON_LIMIT, BYTES / JSON_LIMIT, free).await;

    assert_eq!(load.0.channels.bytes.available_permits(), 0);
    for refused in [
        request("/waits", 1),
        Request::post("/waits")
            .header(TRANSFER_ENCODING, "chunked")
            .body(Body::empty())
            .unwrap(),
    ] {
        let refused = status(&router, refused).await;
        assert_eq!(refused, StatusCode::SERVICE_UNAVAILABLE);
    }
    // What has no body, and a file, takes up none of this.
    assert_eq!(status(&router, request("/", 0)).await, StatusCode::OK);
    let file = request("/v1/users/ada/files", 3_000_000);
    assert_eq!(status(&router, file).await, StatusCode::OK);
    finish(&bell, under_way).await;
    assert_eq!(load.0.channels.bytes.available_permits(), BYTES / UNIT);
}

#[tokio::test]
async fn an_answer_holds_its_place_until_it_is_written() {
    let (load, bell) = (Load::default(), Arc::default());
    let router = router(&load, &bell);

    let answer = router.oneshot(request("/", 0)).await.unwrap();

    let free = || load.0.channels.requests.available_permits();
    assert_eq!(free(), REQUESTS - 1);
    assert_eq!(answer.body().size_hint().exact(), Some(2));
    let body = axum::body::to_bytes(answer.into_body(), 10).await.unwrap();
    assert_eq!(body, "ok");
    assert_eq!(free(), REQUESTS);
}

#[test]
fn pages_of_events_count_by_their_bytes() {
    let load = Load::default();

    let pages: Vec<_> = std::iter::from_fn(|| load.page(1024 * 1024).ok()).collect();

    assert_eq!(pages.len(), BYTES / (1024 * 1024));
    assert!(load.page(1).is_err());
    assert!(load.page(0).is_ok());
    drop(pages);
    assert!(load.page(BYTES).is_ok());
}
