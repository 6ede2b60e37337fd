//! Version 1 of the facade: one file a resource.

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

use super::router::AppState;

pub(super) fn routes() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::new()
        .routes(routes!(conversation::open, conversation::show))
        .routes(routes!(conversation::close))
        .routes(routes!(messages::send))
        .routes(routes!(messages::show))
        .routes(routes!(files::send))
        .routes(routes!(files::show))
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
        .routes(routes!(deliveries::resume))
}
