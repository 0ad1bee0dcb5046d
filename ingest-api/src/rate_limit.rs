//! Rate limits per organisation, held by all replicas together: GCRA, one map operation a request.
//!
//! An organisation's state is one integer, its theoretical arrival time. Every replica keeps its own, and moves
//! it by what it admits and, a few times a second, by what the others say that they admitted
//! ([`crate::rate_exchange`]). Usage is counted in nanoseconds of the window, so that replicas agree on it also
//! while a changed limit is on its way to them. What is admitted anywhere moves the state everywhere, once; so
//! over time the replicas admit the limit, and can only run ahead of it by what they admitted since they last
//! heard of each other. To keep that small in a burst, a replica that has admitted a notable share of a limit
//! does not wait for the next exchange.
//!
//! A replica that is cut off from the others admits its share: the limit divided by the number of replicas that
//! it last knew of.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use shared::id::OrgId;
use tokio::sync::Notify;

/// The window of every limit.
const WINDOW: Duration = Duration::from_mins(1);
const WINDOW_NANOS: u64 = 60_000_000_000;

/// How far other replicas' usage can push an organisation: two windows. Whatever they say, it is admitted again
/// after that.
const MAX_AHEAD_NANOS: u64 = 2 * WINDOW_NANOS;

/// All replicas together may run ahead by the window divided by this, before they hurry to tell each other.
const HURRY: u64 = 40;

/// What an organisation has left.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What an organisation may use.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// How many requests an organisation may make in a minute; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
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

    /// Requests a minute.
    pub fn get(self) -> u64 {
        self.per_minute
    }

    /// What one of `replicas` may admit when they cannot tell each other, at least 1.
    fn share(self, replicas: u32) -> Self {
        Self::per_minute(self.per_minute / u64::from(replicas.max(1)))
    }

    /// Nanoseconds that one request takes out of the window.
    fn interval(self) -> u64 {
        // A limit comes from other replicas too, so it is not trusted to be what `per_minute` makes it.
        (WINDOW_NANOS / self.per_minute.max(1)).max(1)
    }
}

/// What a replica knows of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many there are, this one included.
    pub replicas: u32,
    /// Whether this one cannot hear the others.
    pub cut_off: bool,
}

impl Cluster {
    /// Nobody else.
    pub const ALONE: Self = Self {
        replicas: 1,
        cut_off: false,
    };

    const CUT_OFF_BIT: u32 = 1 << 31;

    fn pack(self) -> u32 {
        let replicas = self.replicas.min(Self::CUT_OFF_BIT - 1);
        replicas | if self.cut_off { Self::CUT_OFF_BIT } else { 0 }
    }

    fn unpack(packed: u32) -> Self {
        Self {
            replicas: packed & !Self::CUT_OFF_BIT,
            cut_off: packed & Self::CUT_OFF_BIT != 0,
        }
    }

    /// The limit that this replica holds an organisation to.
    fn limit_here(self, limit: Limit) -> Limit {
        if self.cut_off {
            limit.share(self.replicas)
        } else {
            limit
        }
    }

    /// Usage, in nanoseconds, from which on a replica hurries to tell the others.
    fn hurry_at(self) -> u64 {
        WINDOW_NANOS / (HURRY * u64::from(self.replicas.max(1)))
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
    /// What the organisation is held to.
    pub limit: Limit,
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

    /// The refusal of what a request needs beyond its admission, which took one and will take one again when
    /// the request is repeated.
    pub fn for_a_repeat(self) -> Self {
        let reset = self.reset + Duration::from_nanos(self.limit.interval());
        Self { reset, ..self }
    }

    /// Adds the `RateLimit` and `RateLimit-Policy` headers (draft-ietf-httpapi-ratelimit-headers-10).
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        // The draft: `Retry-After`, whatever it is there for, must not come before the end of `t`.
        let retry_after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let reset = self.reset_seconds().min(retry_after.unwrap_or(u64::MAX));
        let policy = format!("\"default\";q={};w={}", self.limit.per_minute, WINDOW.as_secs());
        let state = format!("\"default\";r={};t={reset}", self.remaining);
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

/// One organisation's state on one replica.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    arrival: u64,
    /// What this replica admitted and has not told the others yet, in nanoseconds.
    untold: u64,
}

impl Account {
    fn check(&mut self, now: u64, cluster: Cluster, limit: Limit, cost: u64) -> Decision {
        let (next, decision) = gcra(self.arrival, now, cluster.limit_here(limit), cost);
        if decision.admitted && cluster.replicas > 1 && !cluster.cut_off {
            self.untold = self.untold.saturating_add(next - self.arrival.max(now));
        }
        self.arrival = next;
        Decision { limit, ..decision }
    }

    /// Takes in what other replicas admitted.
    fn add(&mut self, now: u64, nanos: u64) {
        let next = self.arrival.max(now).saturating_add(nanos);
        self.arrival = next.min(now.saturating_add(MAX_AHEAD_NANOS));
    }

    /// Takes over the state of a replica that knows more.
    fn raise(&mut self, now: u64, ahead: u64) {
        self.arrival = self.arrival.max(now.saturating_add(ahead.min(MAX_AHEAD_NANOS)));
    }

    /// How far it is ahead of `now` by what everyone knows of.
    fn told_ahead(&self, now: u64) -> u64 {
        self.arrival.saturating_sub(self.untold).saturating_sub(now)
    }
}

/// A share of an organisation's window, in nanoseconds: what was used of it, or what is left to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whose.
    pub org_id: OrgId,
    /// How much.
    pub nanos: u64,
}

/// The state of every organisation that sent something lately.
#[derive(Debug)]
pub struct RateLimiter {
    accounts: DashMap<OrgId, Account>,
    cluster: AtomicU32,
    // Organisations with something untold, each once.
    to_tell: Mutex<Vec<OrgId>>,
    hurry: Notify,
    started: Instant,
}

impl RateLimiter {
    /// Nobody has used anything, and there is no other replica.
    pub fn new() -> Self {
        Self {
            accounts: DashMap::new(),
            cluster: AtomicU32::new(Cluster::ALONE.pack()),
            to_tell: Mutex::default(),
            hurry: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Takes `cost` requests out of an organisation's limit, or refuses and takes none.
    pub fn check(&self, org_id: OrgId, limit: Limit, cost: u64) -> Decision {
        let cluster = Cluster::unpack(self.cluster.load(Ordering::Relaxed));
        let mut account = self.accounts.entry(org_id).or_default();
        let before = account.untold;
        let decision = account.check(self.now(), cluster, limit, cost);
        let after = account.untold;
        drop(account);
        if before == 0 && after > 0 {
            self.to_tell().push(org_id);
        }
        let hurry_at = cluster.hurry_at();
        if before < hurry_at && after >= hurry_at {
            self.hurry.notify_one();
        }
        decision
    }

    /// Sets what is known of the other replicas.
    pub fn set_cluster(&self, cluster: Cluster) {
        self.cluster.store(cluster.pack(), Ordering::Relaxed);
    }

    /// Waits until a notable share of some limit is untold.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Takes what this replica admitted and has not told, for at most `most` organisations; it counts as told.
    pub fn take_untold(&self, most: usize) -> Vec<Usage> {
        let org_ids: Vec<_> = {
            let mut to_tell = self.to_tell();
            let rest = to_tell.len().saturating_sub(most);
            to_tell.drain(rest..).collect()
        };
        let usage = org_ids.into_iter().filter_map(|org_id| {
            let nanos = std::mem::take(&mut self.accounts.get_mut(&org_id)?.untold);
            Some(Usage { org_id, nanos })
        });
        usage.collect()
    }

    /// Takes in what another replica admitted.
    pub fn add(&self, usage: &[Usage]) {
        let now = self.now();
        for Usage { org_id, nanos } in usage {
            self.accounts.entry(*org_id).or_default().add(now, *nanos);
        }
    }

    /// How far organisations are ahead, by what every replica was told.
    pub fn state(&self) -> Vec<Usage> {
        let now = self.now();
        let accounts = self.accounts.iter();
        let state = accounts.map(|account| Usage {
            org_id: *account.key(),
            nanos: account.told_ahead(now),
        });
        state.filter(|usage| usage.nanos > 0).collect()
    }

    /// Takes over the state of a replica that has been there for longer.
    pub fn raise(&self, state: &[Usage]) {
        let now = self.now();
        for Usage { org_id, nanos } in state {
            self.accounts.entry(*org_id).or_default().raise(now, *nanos);
        }
    }

    /// Forgets the organisations whose whole limit is there again.
    pub fn sweep(&self) {
        let now = self.now();
        self.accounts
            .retain(|_, account| account.arrival > now || account.untold > 0);
    }

    fn to_tell(&self) -> std::sync::MutexGuard<'_, Vec<OrgId>> {
        self.to_tell.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Replicas with an organisation's accounts, on one clock, that exchange like the real ones.
    struct Replicas {
        cluster: Cluster,
        limit: Limit,
        accounts: Vec<Account>,
        exchange_at: u64,
        arriving: Vec<(u64, usize, u64)>,
    }

    const EXCHANGE: u64 = 200_000_000;
    const PACE: u64 = 5_000_000;
    const LATENCY: u64 = 2_000_000;

    impl Replicas {
        fn new(replicas: u32, limit: Limit) -> Self {
            Self {
                cluster: Cluster {
                    replicas,
                    cut_off: false,
                },
                limit,
                accounts: vec![Account::default(); replicas as usize],
                exchange_at: EXCHANGE,
                arriving: Vec::new(),
            }
        }

        fn request(&mut self, replica: usize, now: u64) -> bool {
            self.exchange(now);
            let account = &mut self.accounts[replica];
            let admitted = account.check(now, self.cluster, self.limit, 1).admitted;
            if account.untold >= self.cluster.hurry_at() {
                self.exchange_at = self.exchange_at.min(now + PACE);
            }
            admitted
        }

        fn exchange(&mut self, now: u64) {
            while self.exchange_at <= now {
                for (from, account) in self.accounts.iter_mut().enumerate() {
                    let told = std::mem::take(&mut account.untold);
                    self.arriving.push((self.exchange_at + LATENCY, from, told));
                }
                self.exchange_at += EXCHANGE;
            }
            for (at, from, told) in self.arriving.extract_if(.., |(at, ..)| *at <= now) {
                let others = self.accounts.iter_mut().enumerate().filter(|(to, _)| *to != from);
                others.for_each(|(_, account)| account.add(at, told));
            }
        }
    }

    proptest! {
        /// Compared with one replica that sees every request: over any load, evenly spread or not, as many
        /// replicas admit as much within 3 % and what arrives between two exchanges.
        #[test]
        fn replicas_admit_the_limit_together(
            replicas in prop::sample::select(&[1_u32, 2, 4]),
            per_minute in 20_u64..600,
            load_percent in 20_u64..1_500,
            choices in prop::collection::vec(any::<u8>(), 64),
            lopsided in any::<bool>(),
            seconds in 1_u64..120,
        ) {
            let limit = Limit::per_minute(per_minute);
            let (mut together, mut ideal) = (Replicas::new(replicas, limit), Replicas::new(1, limit));
            let gap = WINDOW_NANOS * 100 / (per_minute * load_percent);
            let (mut admitted, mut ideally) = (0_u64, 0_u64);
            for number in 0..seconds * 1_000_000_000 / gap {
                let choice = choices[usize::try_from(number % 64).unwrap()];
                let replica = if lopsided && choice < 200 { 0 } else { usize::from(choice) % replicas as usize };
                let now = number * gap;
                admitted += u64::from(together.request(replica, now));
                ideally += u64::from(ideal.request(0, now));
            }
            let one_interval = EXCHANGE / gap + 1;
            prop_assert!(admitted * 100 <= (ideally + one_interval) * 103, "{admitted} for {ideally}");
            prop_assert!(ideally * 97 <= (admitted + one_interval) * 100, "{admitted} for {ideally}");
        }

        /// A flood that is over before the next exchange does not get the limit once from each replica.
        #[test]
        fn replicas_hurry_in_a_flood(replicas in prop::sample::select(&[2_u32, 4]), per_minute in 1_000_u64..100_000) {
            let mut together = Replicas::new(replicas, Limit::per_minute(per_minute));
            let gap = EXCHANGE / (2 * per_minute);
            let requests = (0..2 * per_minute).map(|number| (number % u64::from(replicas), number * gap));
            let admitted = requests.filter(|(replica, now)| together.request(usize::try_from(*replica).unwrap(), *now));
            let admitted = u64::try_from(admitted.count()).unwrap();
            let unheard = (PACE + LATENCY) / gap + 2;
            prop_assert!(admitted * 100 <= (per_minute + unheard) * 103, "{admitted} of {per_minute}");
        }

        #[test]
        fn replicas_that_are_cut_off_admit_the_limit_together(
            replicas in 1_u32..8,
            per_minute in 10_u64..2_000,
        ) {
            let limit = Limit::per_minute(per_minute);
            let cluster = Cluster { replicas, cut_off: true };
            let admitted: u64 = (0..replicas).map(|_| {
                let mut account = Account::default();
                let admitted = (0..per_minute).filter(|_| account.check(0, cluster, limit, 1).admitted);
                let admitted = u64::try_from(admitted.count()).unwrap();
                assert_eq!(account.untold, 0);
                admitted
            }).sum();
            // Integer intervals are rounded down, which can let one more through.
            prop_assert!(admitted <= per_minute + u64::from(replicas), "{admitted} of {per_minute}");
            prop_assert!(admitted + u64::from(replicas) >= per_minute, "{admitted} of {per_minute}");
        }

        #[test]
        fn a_batch_is_admitted_when_its_refusal_said_so(per_minute in 1_u64..1_000, used in 0_u64..1_000, size in 1_u64..1_000) {
            prop_assume!(size <= per_minute && used <= per_minute);
            let limit = Limit::per_minute(per_minute);
            let mut account = Account::default();
            let mut batch = |now| {
                let first = account.check(now, Cluster::ALONE, limit, 1);
                if !first.admitted {
                    return first;
                }
                let rest = account.check(now, Cluster::ALONE, limit, size - 1);
                if rest.admitted { rest } else { rest.for_a_repeat() }
            };
            (0..used).for_each(|_| _ = batch(0));
            let refused = batch(0);
            if !refused.admitted {
                // A request that is refused at its admission does not know of the rest.
                let again = batch(u64::try_from(refused.reset.as_nanos()).unwrap());
                let later = u64::try_from((refused.reset + again.reset).as_nanos()).unwrap();
                prop_assert!(again.admitted || batch(later).admitted);
            }
        }

        #[test]
        fn no_word_of_others_shuts_an_organisation_out_for_long(nanos in any::<u64>(), now in 0_u64..1 << 60) {
            let mut account = Account::default();
            account.add(now, nanos);
            account.raise(now, nanos);
            let later = now + MAX_AHEAD_NANOS;
            prop_assert!(account.check(later, Cluster::ALONE, Limit::per_minute(1), 1).admitted);
        }
    }

    #[test]
    fn a_replica_that_starts_takes_over_what_was_used() {
        let two = Cluster {
            replicas: 2,
            cut_off: false,
        };
        let (old, new) = (RateLimiter::new(), RateLimiter::new());
        let (org_id, limit) = (OrgId::generate(), Limit::per_minute(10));
        old.set_cluster(two);
        assert!(old.check(org_id, limit, 6).admitted);
        assert!(old.state().is_empty(), "what is untold will be told");
        old.take_untold(10);
        new.raise(&old.state());
        new.raise(&old.state());
        assert!(new.check(org_id, limit, 4).admitted);
        assert!(!new.check(org_id, limit, 1).admitted);
    }

    #[test]
    fn what_is_told_is_told_once_and_in_parts() {
        let limiter = RateLimiter::new();
        limiter.set_cluster(Cluster {
            replicas: 2,
            cut_off: false,
        });
        let limit = Limit::per_minute(60);
        for org_id in [OrgId::generate(), OrgId::generate(), OrgId::generate()] {
            limiter.check(org_id, limit, 1);
            limiter.check(org_id, limit, 2);
        }
        assert_eq!(limiter.take_untold(2).len(), 2);
        let last = limiter.take_untold(2);
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].nanos, 3_000_000_000);
        assert!(limiter.take_untold(2).is_empty());
    }

    #[test]
    fn the_time_in_the_header_is_never_later_than_retry_after() {
        let (_, decision) = gcra(0, 0, Limit::per_minute(60), 30);
        let text = |retry_after: Option<u64>| {
            let mut headers: HeaderMap = retry_after
                .map(|seconds| (RETRY_AFTER, seconds.into()))
                .into_iter()
                .collect();
            decision.write_headers(&mut headers);
            headers[RATE_LIMIT].to_str().unwrap().to_owned()
        };
        assert_eq!(text(None), r#""default";r=30;t=30"#);
        assert_eq!(text(Some(2)), r#""default";r=30;t=2"#);
        assert_eq!(text(Some(60)), r#""default";r=30;t=30"#);
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
        assert_eq!(limiter.accounts.len(), 1);
    }
}
