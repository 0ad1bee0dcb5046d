//! Rate limits of organisations and tenants, held by all replicas together: GCRA, one map operation a request.
//!
//! An account's state is one integer, its theoretical arrival time. Every replica keeps its own, and moves
//! it by what it admits and by what the others say that they admitted ([`crate::limits::exchange`]). Usage is
//! counted in nanoseconds of the window, so that replicas agree on it also while a changed limit is on its way
//! to them. What is admitted anywhere moves the state everywhere, once; so over time the replicas admit the
//! limit, and can only run ahead of it by what they admitted since they last heard of each other. To keep that
//! small in a burst, a replica that has admitted a notable share of a limit does not wait for the next
//! exchange. While less than half of a limit is used up, the others are told of it once a second.
//!
//! A replica that is cut off from the others admits its share: the limit divided by the number of replicas that
//! it last knew of.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dashmap::DashMap;
use shared::domain::id::OrgId;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::domain::accounts::limit::{Limit, WINDOW_NANOS};
use crate::domain::accounts::tenant::hash_of;
use crate::limits::cluster::Cluster;
use crate::limits::gcra::{Decision, gcra};

/// How far ahead other replicas' usage can push an account: two windows. Whatever they send, the account is
/// admitted again after that time.
const MAX_AHEAD_NANOS: u64 = 2 * WINDOW_NANOS;

/// An account with as much of its window used up is close to its limit.
const CLOSE_NANOS: u64 = WINDOW_NANOS / 2;

/// Who has a limit: an organisation, or a tenant with a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AccountId(Uuid);

impl AccountId {
    /// Of a tenant: the same on every replica.
    pub fn of_tenant(org_id: OrgId, tenant: &str) -> Self {
        Self(hash_of("penstock 2026 rate limit of a tenant", org_id, tenant))
    }

    /// As replicas tell each other.
    pub(crate) fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<OrgId> for AccountId {
    fn from(org_id: OrgId) -> Self {
        Self(org_id.as_uuid())
    }
}

impl From<Uuid> for AccountId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

/// One account's state on one replica.
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

    /// Whether the others do not know all that this replica admitted of a limit that may soon be used up.
    fn is_close(&self, now: u64) -> bool {
        self.untold > 0 && self.arrival.saturating_sub(now) >= CLOSE_NANOS
    }

    /// How far it is ahead of `now` by what everyone knows of.
    fn told_ahead(&self, now: u64) -> u64 {
        self.arrival.saturating_sub(self.untold).saturating_sub(now)
    }
}

/// A share of an account's window, in nanoseconds: what was used of it, or what is left to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Whose.
    pub id: AccountId,
    /// The usage.
    pub nanos: u64,
}

/// The state of every account that was used lately.
#[derive(Debug)]
pub struct RateLimiter {
    accounts: DashMap<AccountId, Account>,
    cluster: AtomicU32,
    // Accounts with something untold, each once.
    to_tell: Mutex<Vec<AccountId>>,
    hurry: Notify,
    // Whether an account has come close to its limit since the others were told.
    is_close: AtomicBool,
    close: Notify,
    started: Instant,
}

impl Default for RateLimiter {
    fn default() -> Self {
        Self::new()
    }
}

impl RateLimiter {
    /// A limiter without usage and without other replicas.
    pub fn new() -> Self {
        Self {
            accounts: DashMap::new(),
            cluster: AtomicU32::new(Cluster::ALONE.pack()),
            to_tell: Mutex::default(),
            hurry: Notify::new(),
            is_close: AtomicBool::new(false),
            close: Notify::new(),
            started: Instant::now(),
        }
    }

    /// Takes `cost` requests out of a limit, or refuses and takes none.
    pub fn check(&self, id: AccountId, limit: Limit, cost: u64) -> Decision {
        let cluster = self.cluster();
        let mut account = self.accounts.entry(id).or_default();
        let (before, now) = (account.untold, self.now());
        let decision = account.check(now, cluster, limit, cost);
        let (after, is_close) = (account.untold, account.is_close(now));
        drop(account);
        if before == 0 && after > 0 {
            self.to_tell().push(id);
        }
        let hurry_at = cluster.hurry_at();
        if before < hurry_at && after >= hurry_at {
            self.hurry.notify_one();
        }
        if is_close && !self.is_close.load(Ordering::Relaxed) {
            self.is_close.store(true, Ordering::Relaxed);
            self.close.notify_one();
        }
        decision
    }

    /// Sets what is known of the other replicas.
    pub fn set_cluster(&self, cluster: Cluster) {
        self.cluster.store(cluster.pack(), Ordering::Relaxed);
    }

    /// What is known of the other replicas.
    pub fn cluster(&self) -> Cluster {
        Cluster::unpack(self.cluster.load(Ordering::Relaxed))
    }

    /// Waits until a notable share of some limit is untold.
    pub async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// Waits until something is untold of a limit of which half is used up.
    pub async fn close_to_a_limit(&self) {
        self.close.notified().await;
    }

    /// Takes what this replica admitted and has not told, for at most `most` accounts; it counts as told.
    pub fn take_untold(&self, most: usize) -> Vec<Usage> {
        // Before the usage is taken: what is admitted meanwhile is told the next time.
        self.is_close.store(false, Ordering::Relaxed);
        let ids: Vec<_> = {
            let mut to_tell = self.to_tell();
            let rest = to_tell.len().saturating_sub(most);
            to_tell.drain(rest..).collect()
        };
        let usage = ids.into_iter().filter_map(|id| {
            let nanos = std::mem::take(&mut self.accounts.get_mut(&id)?.untold);
            Some(Usage { id, nanos })
        });
        usage.collect()
    }

    /// Takes in what another replica admitted.
    pub fn add(&self, usage: &[Usage]) {
        let now = self.now();
        for Usage { id, nanos } in usage {
            self.accounts.entry(*id).or_default().add(now, *nanos);
        }
    }

    /// How far accounts are ahead, by what every replica was told.
    pub fn state(&self) -> Vec<Usage> {
        let now = self.now();
        let accounts = self.accounts.iter();
        let state = accounts.map(|account| Usage {
            id: *account.key(),
            nanos: account.told_ahead(now),
        });
        state.filter(|usage| usage.nanos > 0).collect()
    }

    /// Takes over the state of a replica that has been there for longer.
    pub fn raise(&self, state: &[Usage]) {
        let now = self.now();
        for Usage { id, nanos } in state {
            self.accounts.entry(*id).or_default().raise(now, *nanos);
        }
    }

    /// Forgets the accounts whose whole limit is there again.
    pub fn sweep(&self) {
        let now = self.now();
        self.accounts
            .retain(|_, account| account.arrival > now || account.untold > 0);
    }

    fn to_tell(&self) -> std::sync::MutexGuard<'_, Vec<AccountId>> {
        self.to_tell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
