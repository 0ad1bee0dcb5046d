use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;

/// Replicas with an organisation's accounts, on one clock, that exchange like the real ones.
struct Replicas {
    cluster: Cluster,
    limit: Limit,
    accounts: Vec<Account>,
    exchanged_at: u64,
    exchange_at: u64,
    arriving: Vec<(u64, usize, u64)>,
}

const EXCHANGE: u64 = 200_000_000;
const SIGN_OF_LIFE: u64 = 1_000_000_000;
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
            exchanged_at: 0,
            exchange_at: SIGN_OF_LIFE,
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
        if account.is_close(now) {
            self.exchange_at = self.exchange_at.min(now.max(self.exchanged_at + EXCHANGE));
        }
        admitted
    }

    fn exchange(&mut self, now: u64) {
        while self.exchange_at <= now {
            for (from, account) in self.accounts.iter_mut().enumerate() {
                let told = std::mem::take(&mut account.untold);
                self.arriving.push((self.exchange_at + LATENCY, from, told));
            }
            self.exchanged_at = self.exchange_at;
            self.exchange_at += SIGN_OF_LIFE;
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
    let (id, limit) = (AccountId::from(OrgId::generate()), Limit::per_minute(10));
    old.set_cluster(two);
    assert!(old.check(id, limit, 6).admitted);
    assert!(old.state().is_empty(), "what is untold will be told");
    old.take_untold(10);
    new.raise(&old.state());
    new.raise(&old.state());
    assert!(new.check(id, limit, 4).admitted);
    assert!(!new.check(id, limit, 1).admitted);
}

#[test]
fn what_is_told_is_told_once_and_in_parts() {
    let limiter = RateLimiter::new();
    limiter.set_cluster(Cluster {
        replicas: 2,
        cut_off: false,
    });
    let limit = Limit::per_minute(60);
    for id in [
        AccountId::from(OrgId::generate()),
        AccountId::from(OrgId::generate()),
        AccountId::from(OrgId::generate()),
    ] {
        limiter.check(id, limit, 1);
        limiter.check(id, limit, 2);
    }
    assert_eq!(limiter.take_untold(2).len(), 2);
    let last = limiter.take_untold(2);
    assert_eq!(last.len(), 1);
    assert_eq!(last[0].nanos, 3_000_000_000);
    assert!(limiter.take_untold(2).is_empty());
}

#[test]
fn whoever_tells_the_others_is_woken_once_an_organisation_has_used_up_half_of_its_limit() {
    let limiter = RateLimiter::new();
    let is_woken = || limiter.close_to_a_limit().now_or_never().is_some();
    let (id, limit) = (AccountId::from(OrgId::generate()), Limit::per_minute(10));
    limiter.check(id, limit, 6);
    assert!(!is_woken(), "there is nobody to be told");
    limiter.set_cluster(Cluster {
        replicas: 2,
        cut_off: false,
    });
    let other = AccountId::from(OrgId::generate());
    limiter.check(other, limit, 4);
    assert!(!is_woken());
    limiter.check(id, limit, 1);
    limiter.check(id, limit, 1);
    assert!(is_woken());
    assert!(!is_woken(), "once is enough");
    limiter.take_untold(10);
    limiter.check(id, limit, 1);
    assert!(is_woken());
}

#[test]
fn organisations_do_not_share_a_limit_and_idle_ones_are_forgotten() {
    let limiter = RateLimiter::new();
    let limit = Limit::per_minute(WINDOW_NANOS);
    let (one, two) = (
        AccountId::from(OrgId::generate()),
        AccountId::from(OrgId::generate()),
    );
    assert!(limiter.check(one, Limit::per_minute(1), 1).admitted);
    assert!(!limiter.check(one, Limit::per_minute(1), 1).admitted);
    assert!(limiter.check(two, limit, 1).admitted);
    limiter.sweep();
    assert_eq!(limiter.accounts.len(), 1);
}
