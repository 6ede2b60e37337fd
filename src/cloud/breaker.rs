//! The breaker of each host: after failures in a row nothing is sent there for a while, and then a probe at a time.
//!
//! A host that is away is so for every user: asking it again and again would make each of them wait for the time limit, and
//! hit it with all of them when it comes back. Who throttles is not away, so 429 counts as an answer. What a refusal by the
//! breaker means for a request (queue it, tell the channel) is the caller's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::Error;
use super::health::AwayHost;

/// Failures in a row after which a host is taken for away.
const FAILURES: u32 = 5;

/// 1 s: after how long the first probe is sent.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// 30 s: the longest pause between two probes.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// 5 minutes: a host that nobody has wanted to probe for that long is of no interest; perhaps the service has moved.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// The breakers of an account's hosts, by host and port.
#[derive(Default)]
pub(super) struct Breakers(DashMap<String, Arc<Breaker>>);

#[derive(Default)]
struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    /// The pause before the next probe.
    pause: Duration,
    probe_at: Option<Instant>,
    is_probing: bool,
    /// The latest of the failures.
    last: Option<Error>,
}

/// The right to make one request.
pub(super) struct Pass {
    breaker: Arc<Breaker>,
    is_probe: bool,
    is_used: bool,
}

impl Breakers {
    /// Lets a request to a host through.
    ///
    /// # Errors
    ///
    /// [`Error::NotBegun`] with the latest failure, where the host is taken for away.
    pub(super) fn enter(&self, host: &str) -> Result<Pass, Error> {
        let known = self.0.get(host).map(|breaker| Arc::clone(&breaker));
        let breaker =
            known.unwrap_or_else(|| Arc::clone(&self.0.entry(host.to_owned()).or_default()));
        let is_probe = breaker.lock().enter()?;
        Ok(Pass {
            breaker,
            is_probe,
            is_used: false,
        })
    }

    /// The hosts that are taken for away, of those that were tried lately, in the order of their names.
    pub(super) fn away_hosts(&self) -> Vec<AwayHost> {
        let breakers = self.0.iter();
        let told = breakers.filter_map(|breaker| breaker.told_of(breaker.key()));
        let mut away: Vec<_> = told.collect();
        away.sort_by(|one, other| one.host.cmp(&other.host));
        away
    }

    /// How many hosts are taken for away, of those that were tried lately.
    pub(super) fn away(&self) -> usize {
        let are_away = self.0.iter().map(|breaker| breaker.lock().is_away());
        are_away.filter(|is_away| *is_away).count()
    }
}

impl Breaker {
    /// What is to be told of a host, where it is taken for away.
    fn told_of(&self, host: &str) -> Option<AwayHost> {
        let state = self.lock();
        state.is_away().then(|| AwayHost {
            host: host.to_owned(),
            failures: state.failures,
            error: state.last.as_ref().map_or("", Error::word),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_away(&self) -> bool {
        let is_recent = self
            .probe_at
            .is_some_and(|at| Instant::now().saturating_duration_since(at) < FORGOTTEN);
        self.failures >= FAILURES && is_recent
    }

    /// Says whether the request is a probe.
    fn enter(&mut self) -> Result<bool, Error> {
        let (true, Some(last)) = (self.failures >= FAILURES, &self.last) else {
            return Ok(false);
        };
        let is_time = self.probe_at.is_none_or(|at| at <= Instant::now());
        if self.is_probing || !is_time {
            return Err(last.clone().not_begun());
        }
        self.is_probing = true;
        Ok(true)
    }
}

impl Pass {
    /// The host has answered.
    pub(super) fn succeed(mut self) {
        self.is_used = true;
        *self.breaker.lock() = State::default();
    }

    /// The host is away, or says that it cannot serve.
    pub(super) fn fail(mut self, error: Error) {
        self.is_used = true;
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        state.last = Some(error);
        // What was under way when the host was found to be away makes no difference.
        if self.is_probe || state.failures == FAILURES {
            state.is_probing = false;
            state.pause = (state.pause * 2).clamp(FIRST_PAUSE, LAST_PAUSE);
            let pause = state.pause.mul_f64(rand::random_range(0.8..1.2));
            state.probe_at = Some(Instant::now() + pause);
        }
    }
}

impl Drop for Pass {
    /// A request that was given up says nothing of the host; the next one is the probe.
    fn drop(&mut self) {
        if self.is_probe && !self.is_used {
            self.breaker.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const AWAY: Error = Error::Unavailable {
        status: 503,
        retry_after: None,
    };

    fn fail(breakers: &Breakers, times: u32) {
        for _ in 0..times {
            breakers.enter("host").ok().unwrap().fail(AWAY);
        }
    }

    fn is_open(breakers: &Breakers) -> bool {
        breakers.enter("host").is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_it_for_their_host_alone() {
        let breakers = Breakers::default();

        fail(&breakers, 4);
        breakers.enter("host").ok().unwrap().succeed();
        fail(&breakers, 4);
        assert!(!is_open(&breakers));
        fail(&breakers, 1);

        let refused = breakers.enter("host").err().unwrap();
        assert!(matches!(refused, Error::NotBegun(_)));
        assert!(refused.is_transient() && !refused.outcome_unknown());
        assert!(breakers.enter("other").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_are_away_are_counted_until_nobody_asks_for_them_any_more() {
        let breakers = Breakers::default();
        breakers.enter("other").ok().unwrap().succeed();

        fail(&breakers, 4);
        assert_eq!(breakers.away(), 0);
        fail(&breakers, 1);
        assert_eq!(breakers.away(), 1);

        advance(Duration::from_mins(4)).await;
        assert_eq!(breakers.away(), 1);
        advance(Duration::from_mins(2)).await;
        assert_eq!(breakers.away(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_at_a_time_is_let_through_and_its_success_closes_it() {
        let breakers = Breakers::default();
        fail(&breakers, 5);

        advance(Duration::from_millis(1200)).await;
        let probe = breakers.enter("host").ok().unwrap();
        assert!(is_open(&breakers));
        probe.succeed();

        assert!(!is_open(&breakers));
        fail(&breakers, 4);
        assert!(!is_open(&breakers));
    }

    #[tokio::test(start_paused = true)]
    async fn probes_come_ever_more_seldom_but_every_half_minute_at_least() {
        let breakers = Breakers::default();
        fail(&breakers, 5);

        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            advance(Duration::from_millis(seconds * 790)).await;
            assert!(is_open(&breakers), "{seconds}");
            advance(Duration::from_millis(seconds * 420)).await;
            fail(&breakers, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_given_up_makes_room_for_the_next_one() {
        let breakers = Breakers::default();
        fail(&breakers, 5);
        advance(Duration::from_secs(2)).await;

        drop(breakers.enter("host").ok().unwrap());

        assert!(!is_open(&breakers));
    }
}
