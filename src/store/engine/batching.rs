//! What many ask at the same time goes to the database together, in one statement or one transaction.
//!
//! What a statement costs is mostly its round trip, which on both sides is a wake-up, a read and a write, and for what writes its
//! commit. So whoever asks while others' statement is on its way waits for that and goes with the next. Nobody waits while
//! nothing is on its way, and nothing is answered from what was read before it was asked. What this gains is told under
//! "Together" in docs/performance.md.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::store::{Error, Store};

/// 256: questions that go together at most; past that more gain little, and an answer to the first waits for the last.
const TOGETHER: usize = 256;

/// 1 MiB: what questions that go together may weigh.
const BYTES: usize = 1024 * 1024;

/// 20 ms: a statement that takes longer, for which a lock or the network may be the reason, holds up those who come later no more:
/// they go beside it.
const SLOW: Duration = Duration::from_millis(20);

/// 4: statements of a kind on their way at once, when some are slow; each holds a connection.
const AT_ONCE: usize = 4;

/// 16: looks at the sockets while others still come; about a millisecond under the load of one core.
const LOOKS: u32 = 16;

/// Something that is asked together with others of its kind.
pub(in crate::store) trait Question:
    Debug + Send + Sync + Sized + 'static
{
    /// What it is answered with.
    type Answer: Debug + Send + 'static;

    /// About how many bytes it has, where they may be many.
    fn bytes(&self) -> usize {
        0
    }

    /// Asks them all; the answers are in their order. An error is that of all: nothing of them was done, or it is unknown, as
    /// with one alone.
    fn ask(
        store: &Store,
        questions: &[&Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Error>> + Send;
}

/// The questions of one kind that wait; the store has one of each kind (`batchers.rs`).
#[derive(Debug)]
pub(in crate::store) struct Batcher<Q: Question>(Mutex<Waiting<Q>>);

#[derive(Debug)]
struct Waiting<Q: Question> {
    /// In the order in which they came.
    asked: VecDeque<Asked<Q>>,
    /// Tasks that ask the database.
    tasks: usize,
    /// When one of them last took some to ask.
    taken_at: Instant,
}

#[derive(Debug)]
struct Asked<Q: Question> {
    question: Q,
    answer: oneshot::Sender<Result<Q::Answer, Error>>,
}

impl<Q: Question> Default for Batcher<Q> {
    fn default() -> Self {
        Self(Mutex::new(Waiting {
            asked: VecDeque::new(),
            tasks: 0,
            taken_at: Instant::now(),
        }))
    }
}

impl Store {
    /// Asks a question, together with others who ask one of its kind. Once asked it is asked to the end, although who asked goes
    /// away.
    pub(in crate::store) async fn ask<Q: Question>(&self, question: Q) -> Result<Q::Answer, Error>
    where
        Self: AsRef<Batcher<Q>>,
    {
        let (answer, answered) = oneshot::channel();
        if self.as_ref().add(Asked { question, answer }) {
            let store = self.clone();
            // It ends when nobody waits, and what it waits for has limits.
            Handle::current().spawn(async move { store.as_ref().ask(&store).await });
        }
        // Only a runtime that ends drops the task.
        answered
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::PoolClosed.into()))
    }
}

impl<Q: Question> Batcher<Q> {
    /// Has somebody wait; says whether another task is to ask.
    fn add(&self, asked: Asked<Q>) -> bool {
        let mut waiting = self.lock();
        waiting.asked.push_back(asked);
        let another = match waiting.tasks {
            0 => true,
            AT_ONCE.. => false,
            _ => waiting.taken_at.elapsed() > SLOW,
        };
        if another {
            waiting.tasks += 1;
            waiting.taken_at = Instant::now();
        }
        another
    }

    /// Takes those who wait; none ends the task that asks.
    fn take(&self) -> Vec<Asked<Q>> {
        let mut waiting = self.lock();
        let mut bytes = 0;
        let fit = waiting.asked.iter().take(TOGETHER).take_while(|asked| {
            bytes += asked.question.bytes();
            bytes <= BYTES
        });
        // One goes whatever it weighs.
        let count = fit.count().max(1).min(waiting.asked.len());
        waiting.tasks -= usize::from(count == 0);
        waiting.taken_at = Instant::now();
        waiting.asked.drain(..count).collect()
    }

    /// Asks whatever waits, until nothing does.
    async fn ask(&self, store: &Store) {
        loop {
            gather(TOGETHER, || self.lock().asked.len()).await;
            let asked = self.take();
            if asked.is_empty() {
                return;
            }
            let questions: Vec<_> = asked.iter().map(|asked| &asked.question).collect();
            match Q::ask(store, &questions).await {
                Ok(answers) => answer(asked, answers.into_iter().map(Ok)),
                // The others wait for a database that is away no longer than the first of them.
                Err(error) if error.is_outage() => {
                    let waiting: Vec<_> = self.lock().asked.drain(..).collect();
                    let all = asked.into_iter().chain(waiting).collect();
                    answer(all, std::iter::repeat_with(|| Err(error.clone())));
                }
                // The fault of one is not to be that of all.
                Err(_) if asked.len() > 1 => one_by_one(store, asked).await,
                Err(error) => answer(asked, std::iter::once(Err(error))),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<Q>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for those whose requests are here already and not read yet, of whom `count` says how many have come: as long as each
/// look at the sockets brings more of them, up to `enough`. What goes together costs the less the more there are: beside one
/// look, a text costs PostgreSQL 4 in place of 5 µs and the service 36 in place of 38, and one with a key 39 in place of 52
/// and 52 in place of 59; one that comes alone waits no longer than before.
pub async fn gather(enough: usize, count: impl Fn() -> usize) {
    let mut before = 0;
    for _ in 0..LOOKS {
        // Once the runtime has looked at the sockets, and those who are woken by that have had their turn.
        yield_now().await;
        let now = count();
        if now == before || now >= enough {
            return;
        }
        before = now;
    }
}

async fn one_by_one<Q: Question>(store: &Store, asked: Vec<Asked<Q>>) {
    for asked in asked {
        let answers = Q::ask(store, &[&asked.question]).await;
        let own = answers.and_then(|answers| answers.into_iter().next().ok_or(Error::Contended));
        answer(vec![asked], std::iter::once(own));
    }
}

/// Gives each its answer.
fn answer<Q: Question>(
    asked: Vec<Asked<Q>>,
    answers: impl Iterator<Item = Result<Q::Answer, Error>>,
) {
    for (asked, answer) in asked.into_iter().zip(answers) {
        // Who has gone away is answered by nobody.
        let _gone = asked.answer.send(answer);
    }
}

/// The answers to so many questions, in their order, of rows that each come with the place of their question.
pub(in crate::store) fn by_place<R, A: Default>(
    count: usize,
    rows: impl IntoIterator<Item = (i64, R)>,
    add: impl Fn(&mut A, R),
) -> Vec<A> {
    let mut answers: Vec<A> = std::iter::repeat_with(A::default).take(count).collect();
    for (place, row) in rows {
        let place = usize::try_from(place).ok();
        if let Some(answer) = place.and_then(|place| answers.get_mut(place)) {
            add(answer, row);
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{LOOKS, gather};

    /// How often it is looked, where `each` more come from one look to the next until so many are there.
    async fn looks(enough: usize, until: usize, each: usize) -> usize {
        let looks = AtomicUsize::new(0);
        let count = || until.min(each * (1 + looks.fetch_add(1, Ordering::Relaxed)));
        gather(enough, count).await;
        looks.into_inner()
    }

    #[tokio::test]
    async fn it_waits_as_long_as_others_come_and_no_longer() {
        assert_eq!(looks(256, 0, 1).await, 1, "for nobody");
        assert_eq!(looks(256, 1, 1).await, 2, "for one");
        assert_eq!(looks(256, 4, 1).await, 5, "for four, one by one");
        assert_eq!(looks(256, 12, 8).await, 3, "for a dozen");
        assert_eq!(looks(3, 256, 1).await, 3, "until there are enough");
        let endless = looks(usize::MAX, usize::MAX, 1).await;
        assert_eq!(endless, usize::try_from(LOOKS).unwrap(), "for a time");
    }
}
