//! The circuit breakers of the hosts: after several failures in a row they stop all requests to a
//! host, and then let one probe at a time through.
//!
//! A host is unavailable for all users at once. Without a breaker, each of them would wait for the
//! time limit, and all would call the host at the moment it recovers. A host that throttles is not
//! unavailable, so 429 counts as an answer. The caller decides whether it queues a request that the
//! breaker refuses, or reports the refusal to the channel.
//!
//! Services that issue tokens or domains (the domain API, Sentinel, IDP) get fewer requests than
//! other services. Once the quick retries of one request have failed, their breaker follows the
//! pauses that the vendor advises. Each service has breakers of its own, since services may share a
//! host.

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
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// The pauses between attempts to log in. Source: vendor's retry policy recommendations: three
/// retries after 5, 10 and 15 s. After these, the pause stays at 30 s: the vendor's long back-off
/// of minutes would keep users waiting after the outage is over.
const LOG_IN_PAUSES: [Duration; 4] = [
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(15),
    MAX_PAUSE,
];

/// 5 minutes: the longest pause after a `Retry-After` from a service that issues tokens or domains.
const MAX_THROTTLE_PAUSE: Duration = Duration::from_mins(5);

/// 5 minutes: a host that gets no probe for this long is no longer reported as unavailable, since
/// the service may have moved.
const REPORT_TIMEOUT: Duration = Duration::from_mins(5);

/// 60 s: a host that has answered a request within this period counts as serving.
const SERVING_PERIOD: Duration = Duration::from_mins(1);

/// The rate of requests to a service while it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BreakerPolicy {
    /// A service that most requests go to.
    Standard,
    /// A service that gets few requests, and without which no other request is possible.
    LogIn,
}

impl BreakerPolicy {
    /// The number of failures in a row that opens the breaker. For `LogIn` it is the number of
    /// attempts that one request makes.
    const fn failures(self) -> u32 {
        match self {
            Self::Standard => 5,
            Self::LogIn => 3,
        }
    }

    /// Returns the pause that follows a pause of `before`.
    fn pause_after(self, before: Duration) -> Duration {
        match self {
            Self::Standard => (before * 2).clamp(FIRST_PAUSE, MAX_PAUSE),
            Self::LogIn => {
                let mut pauses = LOG_IN_PAUSES.into_iter();
                pauses.find(|pause| *pause > before).unwrap_or(MAX_PAUSE)
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
        let breakers = |policy| Breakers::new(policy, recovery.clone());
        Self {
            messaging: breakers(BreakerPolicy::Standard),
            sentinel: breakers(BreakerPolicy::LogIn),
            idp: breakers(BreakerPolicy::LogIn),
            monitoring: breakers(BreakerPolicy::Standard),
            storage: breakers(BreakerPolicy::Standard),
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
    pub(super) fn unavailable_hosts(&self, domain_api: &Breakers) -> Vec<UnavailableHost> {
        let services = Service::ALL.into_iter().map(|service| self.of(service));
        let breakers = services.chain([domain_api]);
        let mut hosts = BTreeMap::<String, UnavailableHost>::new();
        for host in breakers.flat_map(Breakers::unavailable_hosts) {
            let known = hosts.get(&host.host);
            if known.is_none_or(|known| known.failures < host.failures) {
                hosts.insert(host.host.clone(), host);
            }
        }
        hosts.into_values().collect()
    }
}

/// The circuit breakers of a service's hosts, by host and port.
pub(super) struct Breakers {
    policy: BreakerPolicy,
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
    last_error: Option<Error>,
    /// The time at which the host itself last answered a request.
    served_at: Option<Instant>,
}

/// The permit for one request.
pub(super) struct RequestPermit<'a> {
    breakers: &'a Breakers,
    breaker: Arc<Breaker>,
    is_probe: bool,
    is_settled: bool,
}

impl Breakers {
    pub(super) fn new(policy: BreakerPolicy, recovery: Recovery) -> Self {
        Self {
            policy,
            hosts: DashMap::new(),
            recovery,
        }
    }

    /// Acquires the permit for a request to a host.
    ///
    /// # Errors
    ///
    /// [`Error::NotAttempted`] with the latest failure, if the host's breaker is open.
    pub(super) fn acquire(&self, host: &str) -> Result<RequestPermit<'_>, Error> {
        let existing = self.hosts.get(host).map(|breaker| Arc::clone(&breaker));
        let breaker =
            existing.unwrap_or_else(|| Arc::clone(&self.hosts.entry(host.to_owned()).or_default()));
        let is_probe = breaker.lock().admit(self.policy)?;
        Ok(RequestPermit {
            breakers: self,
            breaker,
            is_probe,
            is_settled: false,
        })
    }

    /// True if one of the hosts itself has answered a request within the last minute.
    pub(super) fn is_serving(&self) -> bool {
        let now = Instant::now();
        self.hosts.iter().any(|breaker| {
            let served_at = breaker.lock().served_at;
            served_at.is_some_and(|at| now.saturating_duration_since(at) < SERVING_PERIOD)
        })
    }

    /// True if the breaker of one of the hosts is open.
    pub(super) fn is_unavailable(&self) -> bool {
        let is_unavailable = |breaker: &Breaker| breaker.lock().is_unavailable(self.policy);
        self.hosts.iter().any(|breaker| is_unavailable(&breaker))
    }

    fn unavailable_hosts(&self) -> Vec<UnavailableHost> {
        let unavailable = self.hosts.iter().filter_map(|breaker| {
            let state = breaker.lock();
            state.is_unavailable(self.policy).then(|| UnavailableHost {
                host: breaker.key().clone(),
                failures: state.failures,
                error: state.last_error.as_ref().map_or("", Error::name),
            })
        });
        unavailable.collect()
    }
}

impl Breaker {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_unavailable(&self, policy: BreakerPolicy) -> bool {
        let is_recent = self
            .probe_at
            .is_some_and(|at| Instant::now().saturating_duration_since(at) < REPORT_TIMEOUT);
        self.failures >= policy.failures() && is_recent
    }

    /// Admits a request; returns true if it is a probe.
    fn admit(&mut self, policy: BreakerPolicy) -> Result<bool, Error> {
        let (true, Some(last)) = (self.failures >= policy.failures(), &self.last_error) else {
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
    /// Records the outcome of the request: its error, or `None` if it succeeded.
    pub(super) fn settle(self, error: Option<&Error>) {
        let policy = self.breakers.policy;
        match error {
            Some(error) if policy.is_host_fault(error) => self.fail(error),
            // For all other services, throttling counts as serving.
            Some(error @ Error::Throttled { .. }) if policy == BreakerPolicy::LogIn => {
                self.throttle(error);
            }
            _ => self.succeed(),
        }
    }

    /// Records that the host has answered, and closes the breaker.
    fn succeed(mut self) {
        self.is_settled = true;
        let mut state = self.breaker.lock();
        let was_open = state.failures >= self.breakers.policy.failures();
        *state = State {
            served_at: Some(Instant::now()),
            ..State::default()
        };
        drop(state);
        if was_open {
            self.breakers.recovery.announce();
        }
    }

    /// Records that the host is unavailable, or has reported that it cannot serve.
    pub(super) fn fail(mut self, error: &Error) {
        self.is_settled = true;
        let policy = self.breakers.policy;
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1);
        state.last_error = Some(error.clone());
        // Failures of requests that were in flight when the breaker opened change nothing.
        if self.is_probe || state.failures == policy.failures() {
            state.is_probing = false;
            state.pause = policy.pause_after(state.pause);
            let low = if policy == BreakerPolicy::LogIn {
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
        self.is_settled = true;
        let policy = self.breakers.policy;
        let mut state = self.breaker.lock();
        state.failures = state.failures.saturating_add(1).max(policy.failures());
        state.last_error = Some(error.clone());
        state.is_probing = false;
        let first = policy.pause_after(Duration::ZERO);
        let requested = error.retry_after().unwrap_or_default();
        let pause = requested.clamp(first, MAX_THROTTLE_PAUSE);
        state.probe_at = Some(Instant::now() + pause);
    }
}

impl Drop for RequestPermit<'_> {
    /// Releases the probe of a cancelled request, which says nothing about the host. The next
    /// request is the probe.
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
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

    fn breakers(policy: BreakerPolicy) -> (Breakers, Arc<Recoveries>) {
        let recoveries = Arc::new(Recoveries::default());
        let account = "12345678".parse().unwrap();
        let recovery = Recovery::new(account, Arc::clone(&recoveries));
        (Breakers::new(policy, recovery), recoveries)
    }

    fn usual() -> Breakers {
        breakers(BreakerPolicy::Standard).0
    }

    fn fail(breakers: &Breakers, times: u32) {
        for _ in 0..times {
            breakers
                .acquire("host")
                .ok()
                .unwrap()
                .settle(Some(&UNAVAILABLE));
        }
    }

    fn is_open(breakers: &Breakers) -> bool {
        breakers.acquire("host").is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn five_failures_in_a_row_open_the_breaker_of_their_host() {
        let breakers = usual();

        fail(&breakers, 4);
        breakers.acquire("host").ok().unwrap().settle(None);
        fail(&breakers, 4);
        assert!(!is_open(&breakers));
        fail(&breakers, 1);

        let refused = breakers.acquire("host").err().unwrap();
        assert!(matches!(refused, Error::NotAttempted(_)));
        assert!(refused.is_transient() && !refused.outcome_unknown());
        assert!(breakers.acquire("other").is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unavailable_host_is_counted_until_it_is_no_longer_called() {
        let breakers = usual();
        breakers.acquire("other").ok().unwrap().settle(None);

        fail(&breakers, 4);
        assert_eq!(breakers.unavailable_hosts().len(), 0);
        fail(&breakers, 1);
        assert_eq!(breakers.unavailable_hosts().len(), 1);

        advance(Duration::from_mins(4)).await;
        assert_eq!(breakers.unavailable_hosts().len(), 1);
        advance(Duration::from_mins(2)).await;
        assert_eq!(breakers.unavailable_hosts().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_probe_is_let_through_and_its_success_closes_the_breaker() {
        let breakers = usual();
        fail(&breakers, 5);

        advance(Duration::from_millis(1200)).await;
        let probe = breakers.acquire("host").ok().unwrap();
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

        drop(breakers.acquire("host").ok().unwrap());

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
        for (pause, seconds) in [(None, 5), (Some(1), 5), (Some(20), 20), (Some(9000), 300)] {
            let retry_after = pause.map(Duration::from_secs);
            let throttled = Error::Throttled { retry_after };

            breakers
                .acquire("host")
                .ok()
                .unwrap()
                .settle(Some(&throttled));

            advance(Duration::from_secs(seconds - 1)).await;
            assert!(is_open(&breakers), "{pause:?}");
            advance(Duration::from_secs(1)).await;
        }
        breakers.acquire("host").ok().unwrap().settle(None);
        assert!(!is_open(&breakers));
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_response_counts_as_an_outage_and_a_refusal_does_not() {
        let breakers = usual();
        let blocked = Error::Blocked { status: 403 };
        let throttled = Error::Throttled { retry_after: None };

        for error in [&Error::AlreadyOpen, &throttled].repeat(5) {
            breakers.acquire("host").ok().unwrap().settle(Some(error));
        }
        assert!(breakers.is_serving() && !is_open(&breakers));
        for _ in 0..5 {
            breakers
                .acquire("host")
                .ok()
                .unwrap()
                .settle(Some(&blocked));
        }

        assert!(is_open(&breakers) && breakers.is_unavailable());
        advance(Duration::from_secs(61)).await;
        assert!(!breakers.is_serving());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_after_an_outage_signals_a_recovery() {
        let (breakers, recoveries) = breakers(BreakerPolicy::Standard);
        fail(&breakers, 4);
        breakers.acquire("host").ok().unwrap().settle(None);
        assert_eq!(recoveries.take(), None);

        fail(&breakers, 5);
        advance(Duration::from_secs(2)).await;
        breakers.acquire("host").ok().unwrap().settle(None);
        breakers.acquire("host").ok().unwrap().settle(None);

        let recovered = recoveries.take();
        assert_eq!(recovered.unwrap().as_str(), "12345678");
        assert_eq!(recoveries.take(), None);
    }
}
