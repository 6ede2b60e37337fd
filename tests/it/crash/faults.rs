//! The faults. Each module makes one kind until the end of a run, and then restores everything. It
//! has random numbers of its own.

pub(super) mod answers;
pub(super) mod clocks;
pub(super) mod cuts;
pub(super) mod database_crashes;
pub(super) mod disks;
pub(super) mod echoes;
pub(super) mod failovers;
pub(super) mod freezes;
pub(super) mod half_open;
pub(super) mod kills;
pub(super) mod notifications;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::scene::Scene;

/// 100 ms: the interval at which frequent faults are drawn.
const TICK: Duration = Duration::from_millis(100);

/// Makes all faults of a run until its end. Each has a thread of its own, because they block on
/// other programs.
pub(super) async fn until(end: Instant, scene: &Arc<Scene>) {
    let mut faults = JoinSet::new();
    for inject in scene.settings.mix.faults() {
        let (scene, runtime) = (Arc::clone(scene), Handle::current());
        faults.spawn_blocking(move || runtime.block_on(inject(scene, end)));
    }
    faults.join_all().await;
}

/// Returns a random time in this range of seconds.
fn seconds(rng: &mut StdRng, between: Range<f64>) -> Duration {
    Duration::from_secs_f64(rng.random_range(between))
}
