//! The circuit breakers of the hosts: after several failures in a row they stop all requests to a
//! host, and then let one probe at a time through.
//!
//! A host that is unavailable is so for all users. Without a breaker, each of them would wait for
//! the time limit, and all would hit the host at once when it comes back. A host that throttles is
//! not unavailable, so 429 counts as an answer. The caller decides what to do with a request that
//! the breaker refuses (queue it, or tell the channel).
//!
//! Services that issue tokens or domains (the domain API, Sentinel, IDP) get fewer requests than
//! other services. Once the quick retries of one request have failed, the breaker makes the pauses
//! that the vendor advises. Each service has breakers of its own, since services may share a host.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::Error;
use super::recovery::Recovery;
use super::service::Service;
use crate::types::status::UnavailableHost;

/// 1 s: the pause before the first probe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// 30 s: the longest pause between two probes.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between attempts to log in. Source: vendor's retry policy recommendations: three
/// retries after 5, 10 and 15 s. After these, the pause stays at 30 s: the vendor's long back-off
/// of minutes would keep users waiting after the outage is over.
const LOG_IN_PAUSES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    LAST_PAUSE,
];

/// 5 minutes: the longest pause after a `Retry-After` from a service that issues tokens or domains.
const LONGEST_THROTTLING: Duration = Duration::from_mins(5);

/// 5 minutes: a host with no probe for that long is no longer reported as unavailable, since the
/// service may have moved.
const REPORT_TIMEOUT: Duration = Duration::from_mins(5);

/// 60 s: a host that has answered a request within this time counts as serving.
const SERVING: Duration = Duration::from_mins(1);

/// The rate of requests to a service while it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerPolicy {
    /// A service that most requests go to.
    Usual,
    /// A service that gets few requests, and without which no other request is possible.
    LogIn,
}

impl BreakerPolicy {
    /// The number of failures in a row that opens the breaker. For `LogIn` it is the number of
    /// attempts that one request makes.
    const fn failures(self) -> u32 {
        match self {
            Self::Usual => 5,
            Self::LogIn => 3,
        }
    }

    /// Returns the pause that follows a pause of `before`.
    fn pause_after(self, before: Duration) -> Duration {
        match self {
            Self::Usual => (before * 2).clamp(FIRST_PAUSE, LAST_PAUSE),
            Self::LogIn => {
                let mut pauses = LOG_IN_PAUSES.into_iter();
                pauses.find(|pause| *pause > before).unwrap_or(LAST_PAUSE)
            }
        }
    }

    /// True if the error is the host's fault and not the request's.
    fn is_host_fault(self, error: &Error) -> bool {
        match error {
            Error::Unreachable(_)
            | Error::NoAnswer(_)
            | Error::Unavailable { .. }
            | Error::Blocked { .. } => true,
            // For instance the HTML page of a gateway.
            Error::Undecodable { .. } => self == Self::LogIn,
            _ => false,
        }
    }
}

/// The circuit breakers of an account's services.
pub(super) struct ServiceBreakers {
    messaging: Breakers,
    sentinel: Breakers,
    idp: Breakers,
    monitoring: Breakers,
    storage: Breakers,
}

impl ServiceBreakers {
    /// Creates breakers that announce recovered hosts.
    pub(super) fn new(recovery: &Recovery) -> Self {
        let breakers = |pace| Breakers::new(pace, recovery.clone());
        Self {
            messaging: breakers(BreakerPolicy::Usual),
            sentinel: breakers(BreakerPolicy::LogIn),
            idp: breakers(BreakerPolicy::LogIn),
            monitoring: breakers(BreakerPolicy::Usual),
            storage: breakers(BreakerPolicy::Usual),
        }
    }

    /// Returns the breakers of a service.
    pub(super) fn of(&self, service: Service) -> &Breakers {
        match service {
            Service::Messaging => &self.messaging,
            Service::Sentinel => &self.sentinel,
            Service::Idp => &self.idp,
            Service::Monitoring => &self.monitoring,
            Service::Storage => &self.storage,
        }
    }

    /// Returns the hosts with an open breaker, including the host of the domain API, ordered by
    /// name. Leaves out hosts that had no probe for a while.
    pub(super) fn away_hosts(&self, directory: &Breakers) -> Vec<UnavailableHost> {
        let services = Service::ALL.into_iter().map(|service| self.of(service));
        let mut away = BTreeMap::<String, UnavailableHost>::new();
        for host in services.chain([directory]).flat_map(Breakers::away_hosts) {
            let known = away.get(&host.host);
            if known.is_none_or(|known| known.failures < host.failures) {
                away.insert(host.host.clone(), host);
            }
        }
        away.into_values().collect()
    }
}

/// The circuit breakers of a service's hosts, by host and port.
pub(super) struct Breakers {
    pace: BreakerPolicy,
    hosts: DashMap<String, Arc<Breaker>>,
    recovery: Recovery,
}

#[derive(Default)]
struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    /// The number of failures in a row.
    failures: u32,
    /// The pause before the next probe.
    pause: Duration,
    probe_at: Option<Instant>,
    is_probing: bool,
    /// The latest failure.
    last: Option<Error>,
    /// The time at which the host itself last answered a request.
    served_at: Option<Instant>,
}

/// The right to make one request.
pub(super) struct RequestPermit<'a> {
    breakers: &'a Breakers,
    breaker: Arc<Breaker>,
    is_probe: bool,
    is_used: bool,
}

impl Breakers {
    pub(super) fn new(pace: BreakerPolicy, recovery: Recovery) -> Self {
        Self {
            pace,
            hosts: DashMap::new(),
            recovery,
        }
    }

    /// Lets a request to a host through.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttempted`] with the latest failure, if the host's breaker is open.
    pub(super) fn enter(&self, host: &str) -> Result<RequestPermit<'_>, Error> {
        let known = self.hosts.get(host).map(|breaker| Arc::clone(&breaker));
        let breaker =
            known.unwrap_or_else(|| Arc::clone(&self.hosts.entry(host.to_owned()).or_default()));
        let is_probe = breaker.lock().enter(self.pace)?;
        Ok(RequestPermit {
            breakers: self,
            breaker,
            is_probe,
            is_used: false,
        })
    }

    /// True if one of the hosts itself has answered a request within the last minute.
    pub(super) fn is_serving(&self) -> bool {
        let now = Instant::now();
        self.hosts.iter().any(|breaker| {
            let served_at = breaker.lock().served_at;
            served_at.is_some_and(|at| now.saturating_duration_since(at) < SERVING)
        })
    }

    /// True if the breaker of one of the hosts is open.
    pub(super) fn is_away(&self) -> bool {
        let is_away = |breaker: &Breaker| breaker.lock().is_away(self.pace);
        self.hosts.iter().any(|breaker| is_away(&breaker))
    }

    fn away_hosts(&self) -> Vec<UnavailableHost> {
        let told = self.hosts.iter().filter_map(|breaker| {
            let state = breaker.lock();
            state.is_away(self.pace).then(|| UnavailableHost {
                host: breaker.key().clone(),
                failures: state.failures,
                error: state.last.as_ref().map_or("", Error::word),
            })
        });
        told.collect()
    }
}

impl Breaker {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_away(&self, pace: BreakerPolicy) -> bool {
        let is_recent = self
            .probe_at
            .is_some_and(|at| Instant::now().saturating_duration_since(at) < REPORT_TIMEOUT);
        self.failures >= pace.failures() && is_recent
    }

    /// Returns true if the request is a probe.
    fn enter(&mut self, pace: BreakerPolicy) -> Result<bool, Error> {
        let (true, Some(last)) = (self.failures >= pace.failures(), &self.last) else {
            return Ok(false);
        };
        let is_time = self.probe_at.is_none_or(|at| at <= Instant::now());
        if self.is_probing || !is_time {
            return Err(last.clone().into_not_attempted());
        }
        self.is_probing = true;
        Ok(true)
    }
}

impl RequestPermit<'_> {
    /// Ends the request with its error; `None` if it succeeded.
    pub(super) fn settle(self, error: Option<&Error>) {
        let pace = self.breakers.pace;
        match error {
            Some(error) if pace.is_host_fault(error) => self.fail(error),
            // For all other services, a host that throttles counts as serving.
            Some(error @ Error::Throttled { .. }) if pace == BreakerPolicy::LogIn => {
                self.throttle(error);
            }
            _ => self.succeed(),
        }
    }

    /// Records that the host has answered, and closes the breaker.
    fn succeed(mut self) {
        self.is_used = true;
        let mut state = self.breaker.lock();
        let was_away = state.failures >= self.breakers.pace.failures();
        *state = State {
            served_at: Some(Instant::now()),
            ..State::default()
        };
        drop(state);
        if was_away {
            self.breakers.recovery.tell();
        }
    }

    /// Records that the host is unavailable or reports that it cannot serve.
    pub(super) fn fail(mut self, error: &Error) {
        self.is_used = true;
        let pace = self.breakers.pace;
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        state.last = Some(error.clone());
        // Failures of requests that were in flight when the breaker opened change nothing.
        if self.is_probe || state.failures == pace.failures() {
            state.is_probing = false;
            state.pause = pace.pause_after(state.pause);
            let low = if pace == BreakerPolicy::LogIn {
                1.0
            } else {
                0.8
            };
            let pause = state.pause.mul_f64(rand::random_range(low..1.2));
            state.probe_at = Some(Instant::now() + pause);
        }
    }

    /// Opens the breaker for the pause that the host asks for, and for the first pause at least.
    fn throttle(mut self, error: &Error) {
        self.is_used = true;
        let pace = self.breakers.pace;
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1).max(pace.failures());
        state.last = Some(error.clone());
        state.is_probing = false;
        let first = pace.pause_after(Duration::ZERO);
        let asked = error.retry_after().unwrap_or_default();
        let pause = asked.clamp(first, LONGEST_THROTTLING);
        state.probe_at = Some(Instant::now() + pause);
    }
}

impl Drop for RequestPermit<'_> {
    /// Releases an unused probe: a cancelled request says nothing about the host, and the next
    /// request is the probe.
    fn drop(&mut self) {
        if self.is_probe && !self.is_used {
            self.breaker.lock().is_probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::recovery::Recoveries;
    use super::*;

    const UNAVAILABLE: Error = Error::Unavailable {
        status: 503,
        retry_after: None,
    };

    fn breakers(pace: BreakerPolicy) -> (Breakers, Arc<Recoveries>) {
        let recoveries = Arc::new(Recoveries::default());
        let account = "12345678".parse().unwrap();
        let recovery = Recovery::new(account, Arc::clone(&recoveries));
        (Breakers::new(pace, recovery), recoveries)
    }

    fn usual() -> Breakers {
        breakers(BreakerPolicy::Usual).0
    }

    fn fail(breakers: &Breakers, times: u32) {
        for _ in 0..times {
            breakers
                .enter("host")
                .ok()
                .unwrap()
                .settle(Some(&UNAVAILABLE));
        }
    }

    fn is_open(breakers: &Breakers) -> bool {
        breakers.enter("host").is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_breaker_of_their_host() {
        let breakers = usual();

        fail(&breakers, 4);
        breakers.enter("host").ok().unwrap().settle(None);
        fail(&breakers, 4);
        assert!(!is_open(&breakers));
        fail(&breakers, 1);

        let refused = breakers.enter("host").err().unwrap();
        assert!(matches!(refused, Error::NotAttempted(_)));
        assert!(refused.is_transient() && !refused.outcome_unknown());
        assert!(breakers.enter("other").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unavailable_host_is_counted_until_it_is_no_longer_called() {
        let breakers = usual();
        breakers.enter("other").ok().unwrap().settle(None);

        fail(&breakers, 4);
        assert_eq!(breakers.away_hosts().len(), 0);
        fail(&breakers, 1);
        assert_eq!(breakers.away_hosts().len(), 1);

        advance(Duration::from_mins(4)).await;
        assert_eq!(breakers.away_hosts().len(), 1);
        advance(Duration::from_mins(2)).await;
        assert_eq!(breakers.away_hosts().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_is_let_through_and_its_success_closes_the_breaker() {
        let breakers = usual();
        fail(&breakers, 5);

        advance(Duration::from_millis(1200)).await;
        let probe = breakers.enter("host").ok().unwrap();
        assert!(is_open(&breakers));
        probe.settle(None);

        assert!(!is_open(&breakers));
        fail(&breakers, 4);
        assert!(!is_open(&breakers));
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_between_probes_doubles_up_to_half_a_minute() {
        let breakers = usual();
        fail(&breakers, 5);

        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            advance(Duration::from_millis(seconds * 790)).await;
            assert!(is_open(&breakers), "{seconds}");
            advance(Duration::from_millis(seconds * 420)).await;
            fail(&breakers, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_probe_lets_the_next_one_through() {
        let breakers = usual();
        fail(&breakers, 5);
        advance(Duration::from_secs(2)).await;

        drop(breakers.enter("host").ok().unwrap());

        assert!(!is_open(&breakers));
    }

    #[tokio::test(start_paused = true)]
    async fn login_services_are_probed_at_the_intervals_that_liveperson_advises() {
        let (breakers, _) = breakers(BreakerPolicy::LogIn);
        fail(&breakers, 3);

        for seconds in [5, 10, 15, 30, 30] {
            advance(Duration::from_millis(seconds * 990)).await;
            assert!(is_open(&breakers), "{seconds}");
            advance(Duration::from_millis(seconds * 220)).await;
            fail(&breakers, 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_throttled_login_service_is_not_called_for_five_seconds() {
        let (breakers, _) = breakers(BreakerPolicy::LogIn);
        for (asked, seconds) in [(None, 5), (Some(1), 5), (Some(20), 20), (Some(9000), 300)] {
            let retry_after = asked.map(Duration::from_secs);
            let throttled = Error::Throttled { retry_after };

            breakers
                .enter("host")
                .ok()
                .unwrap()
                .settle(Some(&throttled));

            advance(Duration::from_secs(seconds - 1)).await;
            assert!(is_open(&breakers), "{asked:?}");
            advance(Duration::from_secs(1)).await;
        }
        breakers.enter("host").ok().unwrap().settle(None);
        assert!(!is_open(&breakers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_response_counts_as_an_outage_and_a_refusal_does_not() {
        let breakers = usual();
        let blocked = Error::Blocked { status: 403 };
        let throttled = Error::Throttled { retry_after: None };

        for error in [&Error::AlreadyOpen, &throttled].repeat(5) {
            breakers.enter("host").ok().unwrap().settle(Some(error));
        }
        assert!(breakers.is_serving() && !is_open(&breakers));
        for _ in 0..5 {
            breakers.enter("host").ok().unwrap().settle(Some(&blocked));
        }

        assert!(is_open(&breakers) && breakers.is_away());
        advance(Duration::from_secs(61)).await;
        assert!(!breakers.is_serving());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_after_an_outage_signals_a_recovery() {
        let (breakers, recoveries) = breakers(BreakerPolicy::Usual);
        fail(&breakers, 4);
        breakers.enter("host").ok().unwrap().settle(None);
        assert_eq!(recoveries.next(), None);

        fail(&breakers, 5);
        advance(Duration::from_secs(2)).await;
        breakers.enter("host").ok().unwrap().settle(None);
        breakers.enter("host").ok().unwrap().settle(None);

        let told = recoveries.next();
        assert_eq!(told.unwrap().as_str(), "12345678");
        assert_eq!(recoveries.next(), None);
    }
}
