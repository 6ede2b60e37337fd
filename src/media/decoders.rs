//! The permits for decoding, shared fairly between channels.
//!
//! If a channel sends many pictures, one of them waits for a permit, and the others wait behind it.
//! So a picture that waits for a permit has at most one picture of each other channel ahead of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::MAX_WAIT;
use crate::types::ids::ChannelId;

/// The permits for one kind of picture.
#[derive(Debug)]
pub(super) struct DecodingPermits {
    permits: Arc<Semaphore>,
    /// A semaphore of one permit for each channel that had to wait. Its holder is the only picture
    /// of the channel that waits in `permits`. The map is bounded by the number of channels.
    queues: Mutex<HashMap<ChannelId, Arc<Semaphore>>>,
}

/// The permit to decode one picture.
pub(super) type Permit = OwnedSemaphorePermit;

impl DecodingPermits {
    /// Creates this number of permits.
    pub(super) fn new(count: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(count)),
            queues: Mutex::default(),
        }
    }

    /// Acquires a permit; `None` if none is free within 5 s.
    pub(super) async fn acquire(&self, channel: &ChannelId) -> Option<Permit> {
        // The semaphores are never closed. A free permit means that no picture waits, since a
        // waiting one would get it.
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        let queue = self.queue(channel);
        let waiting = async {
            let _first = queue.acquire().await.ok()?;
            Arc::clone(&self.permits).acquire_owned().await.ok()
        };
        timeout(MAX_WAIT, waiting).await.ok().flatten()
    }

    fn queue(&self, channel: &ChannelId) -> Arc<Semaphore> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues
            .entry(channel.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(queue)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::{JoinSet, yield_now};

    use super::*;

    #[tokio::test]
    async fn channels_take_turns_regardless_of_the_length_of_their_queues() {
        let permits = Arc::new(DecodingPermits::new(1));
        let order = Arc::new(Mutex::new(Vec::new()));
        let busy = permits.acquire(&"a".parse().unwrap()).await.unwrap();
        let mut waiting = JoinSet::new();
        for name in ["a", "a", "a", "a", "b", "c", "b"] {
            let (permits, order) = (Arc::clone(&permits), Arc::clone(&order));
            waiting.spawn(async move {
                let permit = permits.acquire(&name.parse().unwrap()).await.unwrap();
                order.lock().unwrap().push(name);
                // Lets the other tasks run while this one decodes.
                yield_now().await;
                drop(permit);
            });
            yield_now().await;
        }

        drop(busy);
        waiting.join_all().await;

        let order = order.lock().unwrap();
        assert_eq!(*order, ["a", "b", "c", "a", "b", "a", "a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_a_decoder_permit_has_a_time_limit() {
        let permits = DecodingPermits::new(2);
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        // One channel may have all permits as long as no other channel wants one.
        let busy = (permits.acquire(&a).await, permits.acquire(&a).await);

        assert!(busy.0.is_some() && busy.1.is_some());
        assert!(permits.acquire(&b).await.is_none());
    }
}
