//! A key that was verified, as it is kept in memory.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use shared::domain::clock::UnixMicros;

use crate::domain::access::grant::Grant;
use crate::domain::access::key::KeyId;
use crate::keys::moment::Moment;

/// A key that was verified, and what it allows.
#[derive(Debug)]
pub(crate) struct VerifiedKey {
    /// Its public part.
    pub id: KeyId,
    /// What it allows.
    pub grant: Grant,
    /// When Postgres was asked for the grant.
    pub confirmed_at: Moment,
    /// When this replica asked for the grant, from Postgres or from the shared bucket. The key was not revoked before
    /// then.
    pub proved_at: Moment,
    /// Whether another replica asked Postgres for the grant, so that this one must still ask.
    pub is_hearsay: bool,
    refreshing: AtomicBool,
    last_use: AtomicU32,
    saved_use: AtomicU32,
}

impl VerifiedKey {
    /// A key whose grant Postgres was asked for at `confirmed_at`.
    pub(crate) fn new(id: KeyId, grant: Grant, confirmed_at: Moment) -> Self {
        Self {
            id,
            grant,
            confirmed_at,
            proved_at: confirmed_at,
            is_hearsay: false,
            refreshing: AtomicBool::new(false),
            last_use: AtomicU32::new(0),
            saved_use: AtomicU32::new(0),
        }
    }

    /// A key whose grant another replica asked for, `age` before `proved_at`. It was not revoked at `proved_at`.
    pub(crate) fn hearsay(id: KeyId, grant: Grant, age: Duration, proved_at: Moment) -> Self {
        Self {
            is_hearsay: true,
            proved_at,
            ..Self::new(id, grant, proved_at - age)
        }
    }

    /// Whether the key may be used at this time of day.
    pub(crate) fn is_current(&self) -> bool {
        // Most keys never expire, and reading the clock is most of this function.
        self.grant.expires_at.is_none_or(|at| at > UnixMicros::now())
    }

    /// Whether the caller is the one to ask Postgres again.
    pub(crate) fn begin_refresh(&self) -> bool {
        !self.refreshing.swap(true, Ordering::Relaxed)
    }

    /// The refresh failed; another may try.
    pub(crate) fn end_refresh(&self) {
        self.refreshing.store(false, Ordering::Relaxed);
    }

    /// Notes a use, in whole seconds of `uptime`: at most one store a second, which the cores do not fight over.
    pub(crate) fn used(&self, uptime: Duration) {
        let second = u32::try_from(uptime.as_secs())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        if self.last_use.load(Ordering::Relaxed) != second {
            self.last_use.store(second, Ordering::Relaxed);
        }
    }

    /// The last use, as a second of the process's uptime, when Postgres does not know of it yet.
    pub(crate) fn unsaved_use(&self) -> Option<u32> {
        let last = self.last_use.load(Ordering::Relaxed);
        (last != self.saved_use.load(Ordering::Relaxed)).then(|| last - 1)
    }

    /// Postgres knows of the use in that second.
    pub(crate) fn saved_use(&self, second: u32) {
        self.saved_use.store(second + 1, Ordering::Relaxed);
    }

    /// Takes over what is known of the uses of the entry that this one replaces.
    pub(crate) fn inherit_uses(&self, from: &Self) {
        let last = from.last_use.load(Ordering::Relaxed);
        self.last_use.fetch_max(last, Ordering::Relaxed);
        self.saved_use
            .store(from.saved_use.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}
