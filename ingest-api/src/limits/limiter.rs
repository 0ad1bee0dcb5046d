//! Rate limits per organisation, held by all replicas together: GCRA, one map operation a request.
//!
//! An organisation's state is one integer, its theoretical arrival time. Every replica keeps its own, and moves
//! it by what it admits and, a few times a second, by what the others say that they admitted
//! ([`crate::limits::exchange`]). Usage is counted in nanoseconds of the window, so that replicas agree on it also
//! while a changed limit is on its way to them. What is admitted anywhere moves the state everywhere, once; so
//! over time the replicas admit the limit, and can only run ahead of it by what they admitted since they last
//! heard of each other. To keep that small in a burst, a replica that has admitted a notable share of a limit
//! does not wait for the next exchange.
//!
//! A replica that is cut off from the others admits its share: the limit divided by the number of replicas that
//! it last knew of.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use shared::domain::id::OrgId;
use tokio::sync::Notify;

use crate::domain::limit::{Limit, WINDOW_NANOS};
use crate::limits::gcra::{Decision, gcra};

/// How far other replicas' usage can push an organisation: two windows. Whatever they say, it is admitted again
/// after that.
const MAX_AHEAD_NANOS: u64 = 2 * WINDOW_NANOS;

/// All replicas together may run ahead by the window divided by this, before they hurry to tell each other.
const HURRY: u64 = 40;

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

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new()
    }
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
