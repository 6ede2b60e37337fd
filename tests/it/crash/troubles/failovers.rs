//! A primary that crashes, hangs or is fenced, and the standby that replaces it. The standby
//! confirms every commit (`synchronous_standby_names`), so that no commit is lost.

use std::sync::Arc;
use std::time::Instant;

use super::seconds;
use crate::crash::parts::Part;
use crate::crash::scene::{Scene, pass};
use crate::crash::settings::Dice;
use crate::support::postgres::Server;
use rand::seq::IndexedRandom as _;

/// A way to lose a primary: the name of its count, and the action.
type Loss = (&'static str, fn(&Server));

const LOSSES: [Loss; 3] = [
    ("failovers, the primary crashed", Server::crash),
    ("failovers, the primary frozen", Server::freeze),
    ("failovers, the primary alive", |_| ()),
];

pub(in crate::crash) async fn until(scene: Arc<Scene>, end: Instant) {
    let mut chance = scene.settings.chance(Dice::Trouble(Part::Failovers));
    while pass(seconds(&mut chance, 20.0..40.0), end).await {
        let _turn = scene.storage.hold().await;
        let postgres = scene.storage.postgres();
        let (name, lose) = LOSSES.choose(&mut chance).unwrap();
        lose(postgres.primary());
        scene.tally.note(name);
        // The time until the failure is noticed.
        pass(seconds(&mut chance, 1.0..6.0), end).await;
        postgres.fence().await;
        let former = postgres.promote_standby().await;
        pass(seconds(&mut chance, 1.0..10.0), end).await;
        bury(former);
        postgres.take_in(former).await;
    }
}

/// Ends a server that is no longer the primary.
fn bury(server: &Server) {
    if server.is_running() {
        server.thaw();
        server.crash();
    }
}
