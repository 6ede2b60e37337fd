//! A layer of one function, which is given a request and what comes next.
//!
//! `axum::middleware::from_fn` copies all that is below it for each request, and of layers one in another each copies those
//! below it again. Here a copy is one count and one box, whatever is below. Measured together with small futures and metrics found
//! without a copy of their labels: a message cost the service 111 in place of 184 µs ("Where it comes from" in docs/performance.md).

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::Response;
use axum::routing::Route;
use futures_util::FutureExt as _;
use tower::{Layer, Service};

/// Surrounds routes with a function.
pub(super) struct Around<F>(Arc<F>);

/// A route with the function around it.
pub(super) struct Surrounded<F>(Arc<(Arc<F>, Route)>);

/// What comes next.
pub(super) struct Next(Route);

impl<F> Around<F> {
    pub(super) fn new(function: F) -> Self {
        Self(Arc::new(function))
    }
}

impl Next {
    /// The answer of all that comes next.
    pub(super) fn run(mut self, request: Request) -> impl Future<Output = Response> {
        self.0.call(request).map(|answer| match answer {
            Ok(response) => response,
            Err(never) => match never {},
        })
    }
}

impl<F> Clone for Around<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Clone for Surrounded<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F> Layer<Route> for Around<F> {
    type Service = Surrounded<F>;

    fn layer(&self, route: Route) -> Surrounded<F> {
        Surrounded(Arc::new((Arc::clone(&self.0), route)))
    }
}

impl<F, A> Service<Request> for Surrounded<F>
where
    F: Fn(Request, Next) -> A,
    A: Future<Output = Result<Response, Infallible>>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = A;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // A route is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> A {
        let (function, route) = &*self.0;
        function(request, Next(route.clone()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    /// Counts how often it is copied.
    struct Copied(Arc<AtomicUsize>);

    impl Copied {
        fn answer(&self) -> String {
            format!("copied {} times", self.0.load(Ordering::Relaxed))
        }
    }

    impl Clone for Copied {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, Ordering::Relaxed);
            Self(Arc::clone(&self.0))
        }
    }

    /// How often a request copies a handler below so many layers.
    async fn copies(layers: usize) -> usize {
        let count = Arc::<AtomicUsize>::default();
        let copied = Copied(Arc::clone(&count));
        let handler = async move || copied.answer();
        let pass = Around::new(async |request, next: Next| Ok(next.run(request).await));
        let router = (0..layers).fold(Router::new().route("/", get(handler)), |router, _| {
            router.layer(pass.clone())
        });
        let router = router.with_state(());
        let before = count.load(Ordering::Relaxed);

        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = router.oneshot(request).await.unwrap();

        let after = count.load(Ordering::Relaxed);
        let body = to_bytes(answer.into_body(), 100).await.unwrap();
        assert_eq!(body, format!("copied {after} times"));
        after - before
    }

    #[tokio::test]
    async fn another_layer_around_a_handler_copies_it_no_more_often() {
        let below_one = copies(1).await;

        assert!((1..=3).contains(&below_one), "{below_one}");
        assert_eq!(copies(5).await, below_one);
    }
}
