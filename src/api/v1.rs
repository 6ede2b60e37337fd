//! Version 1 of the API: one file for each resource.
//!
//! To add an operation:
//!
//! 1. a use case in `bridge`, or in `outbox` if it sends a request to the Cloud, whose errors have
//!    codes (`bridge/error.rs`);
//! 2. a handler with its `#[utoipa::path]` in the file of its resource, which extracts, calls the
//!    use case and maps the result (a new resource needs a `mod` here and a tag in `openapi.rs`);
//! 3. examples of its request and its responses, coherent with those of other operations. A request
//!    with its first example, by name, must succeed in a fresh `demo`;
//! 4. a line in `routes`;
//! 5. `cargo run -- openapi > openapi.yaml`;
//! 6. a test in `tests/it` on both engines, a line in the lists of `tests/it/problems.rs`, and a
//!    place in the order of `tests/it/browser/docs.rs`; tests that read the OpenAPI document
//!    include the operation automatically;
//! 7. a paragraph in `docs` and a line in `CHANGELOG.md`.

mod conversation;
pub(super) mod deliveries;
pub(super) mod events;
mod files;
pub(super) mod messages;
mod profile;
mod rating;
mod receipts;
mod send;
mod typing;
mod users;

use std::sync::Arc;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::idempotency::SelfClaimingRoutes;
use super::state::AppState;

/// Builds the channels' operations, with the set of those that claim the idempotency key
/// themselves.
pub(super) fn routes() -> (OpenApiRouter<Arc<AppState>>, SelfClaimingRoutes) {
    let text = routes!(messages::send);
    // By far the most frequent operation: its use case claims the key together with its other
    // writes.
    let claiming = SelfClaimingRoutes::in_work([&text.1]);
    let routes = OpenApiRouter::new()
        .routes(text)
        .routes(routes!(conversation::open, conversation::show))
        .routes(routes!(conversation::close))
        .routes(routes!(messages::show))
        .routes(routes!(files::send))
        .routes(routes!(files::show))
        .routes(routes!(files::show_linked))
        .routes(routes!(typing::set))
        .routes(routes!(receipts::send))
        .routes(routes!(users::show, users::erase))
        .routes(routes!(profile::set))
        .routes(routes!(rating::set))
        .routes(routes!(send::send))
        .routes(routes!(events::list))
        .routes(routes!(deliveries::show))
        .routes(routes!(deliveries::test))
        .routes(routes!(deliveries::list))
        .routes(routes!(deliveries::retry))
        .routes(routes!(deliveries::replay))
        .routes(routes!(deliveries::resume));
    (routes, claiming)
}
