//! A primary that crashes, hangs or is fenced, and the standby that replaces it. The standby
//! confirms every commit (`synchronous_standby_names`), so that no commit is lost.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, wait};
use crate::crash::settings::RngStream;
use crate::support::postgres::Server;
use rand::seq::IndexedRandom as _;

/// A loss of the primary: the name of its count, and the action.
type Loss = (&'static str, fn(&Server));

const LOSSES: [Loss; 3] = [
    ("failovers, the primary crashed", Server::crash),
    ("failovers, the primary frozen", Server::freeze),
    ("failovers, the primary alive", |_| ()),
];

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut rng = scene.settings.rng(RngStream::Fault(Part::Failovers));
    while wait(seconds(&mut rng, 20.0..40.0), end).await {
        let _lock = scene.storage.lock().await;
        let postgres = scene.storage.postgres();
        let (name, lose) = LOSSES.choose(&mut rng).unwrap();
        lose(postgres.primary());
        scene.tally.increment(name);
        // The time until the failure is noticed.
        wait(seconds(&mut rng, 1.0..6.0), end).await;
        postgres.fence().await;
        let former = postgres.promote_standby().await;
        wait(seconds(&mut rng, 1.0..10.0), end).await;
        stop_former(former);
        postgres.rejoin(former).await;
    }
}

/// Ends a server that is no longer the primary.
fn stop_former(server: &Server) {
    if server.is_running() {
        server.thaw();
        server.crash();
    }
}
