//! Reads of a log that many readers make at the same moment. A new event wakes all readers of a
//! channel, most of which are at the end of its log. They share one query.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::Mutex;

use crate::bridge::Bridge;
use crate::store::{Error, Page, PageSize};
use crate::types::ids::ChannelId;

/// 12 KiB, plus the excess of the last event: the events that a stream has in memory at once. There
/// may be 10,000 streams.
pub(super) const STREAM_PAGE: PageSize = PageSize {
    events: 100,
    bytes: 12 * 1024,
};

/// A part of a channel's log: at most a page after a position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Part {
    channel_id: ChannelId,
    after: u64,
    size: PageSize,
}

/// The reads in progress, by part.
#[derive(Debug, Default)]
pub(super) struct SharedReads(DashMap<Part, Arc<Read>>);

/// The reads of one part.
#[derive(Debug, Default)]
struct Read {
    /// Counts the readers that have arrived.
    arrivals: AtomicU64,
    /// The outcome of the last read, with the number of readers that had arrived when it began.
    last: Mutex<Option<(u64, Outcome)>>,
}

/// Removes the entry of a part after its last reader, even if that one is cancelled.
struct Cleanup<'a> {
    reads: &'a SharedReads,
    part: &'a Part,
}

type Outcome = Result<Arc<Page>, Error>;

impl Bridge {
    /// Reads a page of the events of all users, by a query that readers of the same part share.
    pub(super) async fn read_channel(
        &self,
        channel_id: &ChannelId,
        after: u64,
        size: PageSize,
    ) -> Outcome {
        let part = Part {
            channel_id: channel_id.clone(),
            after,
            size,
        };
        let read = async |part: &Part| {
            let _permit = self.read_limits.acquire(&part.channel_id).await;
            let store = &self.parts.store;
            store
                .events_after(&part.channel_id, part.after, part.size)
                .await
        };
        self.log_reads.read(part, read).await
    }
}

impl SharedReads {
    /// Reads a part by `read`, or returns the outcome of a read that another reader has begun since
    /// the call. So no reader gets a page that was read before it asked.
    async fn read(
        &self,
        part: Part,
        read: impl AsyncFnOnce(&Part) -> Result<Page, Error>,
    ) -> Outcome {
        // Dropped after `shared`, so that the reader does not count itself.
        let _cleanup = Cleanup {
            reads: self,
            part: &part,
        };
        let shared = Arc::clone(&self.0.entry(part.clone()).or_default());
        shared.join(async || read(&part).await).await
    }
}

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        // Only the map has the entry if this reader was the last one.
        self.reads
            .0
            .remove_if(self.part, |_, shared| Arc::strong_count(shared) == 1);
    }
}

impl Read {
    async fn join(&self, read: impl AsyncFnOnce() -> Result<Page, Error>) -> Outcome {
        let number = self.arrivals.fetch_add(1, Ordering::Relaxed);
        let mut last = self.last.lock().await;
        // An error that is no outage may concern only the reader that got it.
        if let Some((begun, outcome)) = &*last
            && *begun > number
            && !matches!(outcome, Err(error) if !error.is_outage())
        {
            return outcome.clone();
        }
        let begun = self.arrivals.load(Ordering::Relaxed);
        let outcome = read().await.map(Arc::new);
        *last = Some((begun, outcome.clone()));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    fn part() -> Part {
        Part {
            channel_id: "sms".parse().unwrap(),
            after: 7,
            size: PageSize::events(100),
        }
    }

    fn page(head: u64) -> Page {
        Page {
            events: Vec::new(),
            floor: 0,
            head,
        }
    }

    #[tokio::test]
    async fn readers_that_arrive_during_a_read_share_the_next_one() {
        let (reads, count) = (Arc::new(SharedReads::default()), AtomicUsize::new(0));
        let (begun, finish) = (Notify::new(), Notify::new());
        let first = reads.read(part(), async |_| {
            begun.notify_one();
            finish.notified().await;
            Ok(page(1))
        });
        let others = async {
            begun.notified().await;
            let mut others = Vec::new();
            for _ in 0..50 {
                let count = &count;
                others.push(reads.read(part(), async move |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                    Ok(page(2))
                }));
            }
            let others = futures_util::future::join_all(others);
            // All of them have arrived before the first read ends, since they are polled first.
            let (pages, ()) = tokio::join!(others, async { finish.notify_one() });
            pages
        };

        let (first, others) = tokio::join!(first, others);

        assert_eq!(first.unwrap().head, 1);
        assert!(others.iter().all(|page| page.as_ref().unwrap().head == 2));
        assert_eq!(count.into_inner(), 1, "reads for the 50 others");
        assert!(reads.0.is_empty(), "entries without readers");
    }

    #[tokio::test]
    async fn a_cancelled_reader_leaves_no_entry() {
        let reads = SharedReads::default();
        let mut read = Box::pin(reads.read(part(), async |_| std::future::pending().await));

        assert!(futures_util::poll!(&mut read).is_pending());
        assert_eq!(reads.0.len(), 1);
        drop(read);

        assert!(reads.0.is_empty());
    }

    #[tokio::test]
    async fn a_reader_never_gets_a_page_that_was_read_before() {
        let reads = SharedReads::default();
        for head in 1..=3 {
            let read = reads.read(part(), async move |_| Ok(page(head))).await;
            assert_eq!(read.unwrap().head, head);
        }
    }
}
