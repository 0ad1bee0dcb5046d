//! Rate limits per organisation: GCRA, one integer of state an organisation, one map operation a request.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use dashmap::DashMap;
use shared::id::OrgId;

/// The window of every limit.
const WINDOW: Duration = Duration::from_mins(1);
const WINDOW_NANOS: u64 = 60_000_000_000;

/// What an organisation has left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What an organisation may use.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many requests an organisation may make in a minute; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    per_minute: u64,
}

impl Limit {
    /// At least 1, and at most one a nanosecond.
    pub fn per_minute(requests: u64) -> Self {
        Self {
            per_minute: requests.clamp(1, WINDOW_NANOS),
        }
    }

    /// Nanoseconds that one request takes out of the window.
    fn interval(self) -> u64 {
        WINDOW_NANOS / self.per_minute
    }
}

/// What became of one request, and what the organisation has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may go on.
    pub admitted: bool,
    /// Requests that would be admitted now.
    pub remaining: u64,
    /// Admitted: time until the whole limit is there again. Refused: time until this request would be admitted.
    pub reset: Duration,
    limit: Limit,
}

impl Decision {
    /// Whole seconds until [`reset`](Self::reset), at least 1 unless it is now.
    pub fn reset_seconds(&self) -> u64 {
        self.reset
            .as_nanos()
            .div_ceil(1_000_000_000)
            .try_into()
            .unwrap_or(u64::MAX)
    }

    /// Adds the `RateLimit` and `RateLimit-Policy` headers (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        let policy = format!("\"default\";q={};w={}", self.limit.per_minute, WINDOW.as_secs());
        let state = format!("\"default\";r={};t={}", self.remaining, self.reset_seconds());
        for (name, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
            headers.insert(
                name,
                HeaderValue::try_from(text).expect("digits and quotes are header characters"),
            );
        }
    }
}

/// The generic cell rate algorithm. `arrival` is the theoretical arrival time: when, in nanoseconds, the
/// window would be empty again. Returns its new value; a refused request leaves it as it was.
///
/// Source: ATM Forum, *Traffic Management Specification 4.0*, "virtual scheduling".
fn gcra(arrival: u64, now: u64, limit: Limit, cost: u64) -> (u64, Decision) {
    let start = arrival.max(now);
    let next = start.saturating_add(limit.interval().saturating_mul(cost));
    let end = now.saturating_add(WINDOW_NANOS);
    let admitted = next <= end;
    let arrival = if admitted { next } else { start };
    let decision = Decision {
        admitted,
        remaining: end.saturating_sub(arrival) / limit.interval(),
        reset: Duration::from_nanos(if admitted { arrival - now } else { next - end }),
        limit,
    };
    (arrival, decision)
}

/// The state of every organisation that sent something lately.
#[derive(Debug)]
pub struct RateLimiter {
    arrivals: DashMap<OrgId, u64>,
    started: Instant,
}

impl RateLimiter {
    /// Nobody has used anything.
    pub fn new() -> Self {
        Self {
            arrivals: DashMap::new(),
            started: Instant::now(),
        }
    }

    /// Takes `cost` requests out of an organisation's limit, or refuses and takes none.
    pub fn check(&self, org_id: OrgId, limit: Limit, cost: u64) -> Decision {
        let now = self.now();
        let mut arrival = self.arrivals.entry(org_id).or_insert(now);
        let (next, decision) = gcra(*arrival, now, limit, cost);
        *arrival = next;
        decision
    }

    /// Forgets the organisations whose whole limit is there again.
    pub fn sweep(&self) {
        let now = self.now();
        self.arrivals.retain(|_, arrival| *arrival > now);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the pattern, no window of a minute admits more than the burst and what a minute refills.
        #[test]
        fn the_limit_holds_over_every_pattern_of_requests(
            per_minute in 1u64..500,
            gaps in proptest::collection::vec((0u64..2_000_000_000, 1u64..4), 1..400),
        ) {
            let limit = Limit::per_minute(per_minute);
            let (mut arrival, mut now, mut admitted) = (0, 0, Vec::new());
            for (gap, cost) in gaps {
                now += gap;
                let (next, decision) = gcra(arrival, now, limit, cost);
                prop_assert!(decision.remaining <= per_minute + 1);
                if decision.admitted {
                    admitted.push((now, cost));
                } else {
                    prop_assert_eq!(next, arrival.max(now));
                    let later = now + u64::try_from(decision.reset.as_nanos()).unwrap();
                    prop_assert!(cost > per_minute || gcra(arrival, later, limit, cost).1.admitted);
                }
                arrival = next;
            }
            for (start, _) in &admitted {
                let in_window = admitted.iter().filter(|(at, _)| (*start..start + WINDOW_NANOS).contains(at));
                let sum: u64 = in_window.map(|(_, cost)| cost).sum();
                prop_assert!(sum <= 2 * per_minute + 1, "{sum} in a minute of {per_minute}");
            }
        }

        #[test]
        fn a_fresh_organisation_may_use_its_whole_limit_at_once(per_minute in 1u64..2_000, now in 0u64..1 << 50) {
            let limit = Limit::per_minute(per_minute);
            let mut arrival = 0;
            for left in (0..per_minute).rev() {
                let (next, decision) = gcra(arrival, now, limit, 1);
                prop_assert!(decision.admitted && decision.remaining >= left);
                arrival = next;
            }
        }
    }

    #[test]
    fn a_used_up_limit_says_when_to_come_back() {
        let limit = Limit::per_minute(60);
        let (arrival, first) = gcra(0, 0, limit, 60);
        assert_eq!(
            (first.admitted, first.remaining, first.reset_seconds()),
            (true, 0, 60)
        );
        let (_, second) = gcra(arrival, 0, limit, 1);
        assert_eq!(
            (second.admitted, second.remaining, second.reset_seconds()),
            (false, 0, 1)
        );
    }

    #[test]
    fn organisations_do_not_share_a_limit_and_idle_ones_are_forgotten() {
        let limiter = RateLimiter::new();
        let limit = Limit::per_minute(WINDOW_NANOS);
        let (one, two) = (OrgId::generate(), OrgId::generate());
        assert!(limiter.check(one, Limit::per_minute(1), 1).admitted);
        assert!(!limiter.check(one, Limit::per_minute(1), 1).admitted);
        assert!(limiter.check(two, limit, 1).admitted);
        limiter.sweep();
        assert_eq!(limiter.arrivals.len(), 1);
    }
}
