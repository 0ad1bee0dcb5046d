//! Which tenants their own limits have refused in the last minute, on all replicas. A request that is let through costs nothing
//! here.
//!
//! Each replica counts what it refuses, and [tells the others](crate::limits::exchange) how much that was since the last time.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use shared::domain::id::OrgId;

use crate::domain::access::realm::Realm;

/// Refusals are counted in stretches of this many seconds, for a minute.
const STRETCH_SECONDS: u64 = 10;
const STRETCHES: usize = 6;

/// Tenants of one organisation that are counted at once. Further ones are not.
const MOST_TENANTS: usize = 1_000;

/// The refusals of the last minute.
#[derive(Debug)]
pub(crate) struct Refusals {
    by_organization: DashMap<OrgId, HashMap<Box<str>, Recent>>,
    /// Whether there may be some that the other replicas were not told of.
    has_untold: AtomicBool,
    started: Instant,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            by_organization: DashMap::new(),
            has_untold: AtomicBool::new(false),
            started: Instant::now(),
        }
    }
}

/// How often a replica has refused a tenant since it last told the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// The tenant's organisation.
    pub org_id: OrgId,
    /// Its id.
    pub tenant: Box<str>,
    /// How many requests, and events of batches.
    pub count: u32,
}

/// A tenant's refusals.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// The stretch of the first of these counts; each other one is of the stretch before.
    stretch: u64,
    counts: [u32; STRETCHES],
    /// How many of them are of this replica and were not told.
    untold: u32,
}

impl Recent {
    fn new(stretch: u64) -> Self {
        Self {
            stretch,
            counts: [0; STRETCHES],
            untold: 0,
        }
    }

    /// How many of the counts are too old at this stretch.
    fn passed(&self, stretch: u64) -> usize {
        let passed = stretch.saturating_sub(self.stretch);
        usize::try_from(passed).unwrap_or(STRETCHES).min(STRETCHES)
    }

    fn add(&mut self, stretch: u64, count: u32) {
        let passed = self.passed(stretch);
        self.counts.rotate_right(passed);
        self.counts[..passed].fill(0);
        self.stretch = self.stretch.max(stretch);
        self.counts[0] = self.counts[0].saturating_add(count);
    }

    fn sum(&self, stretch: u64) -> u64 {
        let kept = STRETCHES - self.passed(stretch);
        self.counts[..kept].iter().copied().map(u64::from).sum()
    }
}

impl Refusals {
    /// Notes that a tenant's limit has refused something.
    pub(crate) fn note(&self, org_id: OrgId, tenant: &str) {
        self.note_at(self.stretch(), org_id, tenant);
    }

    fn note_at(&self, stretch: u64, org_id: OrgId, tenant: &str) {
        self.change(stretch, org_id, tenant, |recent| {
            recent.add(stretch, 1);
            recent.untold = recent.untold.saturating_add(1);
        });
        self.has_untold.store(true, Ordering::Relaxed);
    }

    /// Takes in what another replica has refused.
    pub(crate) fn hear(&self, refused: &[Refused]) {
        self.hear_at(self.stretch(), refused);
    }

    fn hear_at(&self, stretch: u64, refused: &[Refused]) {
        for Refused {
            org_id,
            tenant,
            count,
        } in refused
        {
            self.change(stretch, *org_id, tenant, |recent| recent.add(stretch, *count));
        }
    }

    fn change(&self, stretch: u64, org_id: OrgId, tenant: &str, change: impl FnOnce(&mut Recent)) {
        let mut tenants = self.by_organization.entry(org_id).or_default();
        if let Some(recent) = tenants.get_mut(tenant) {
            change(recent);
        } else if tenants.len() < MOST_TENANTS {
            let mut recent = Recent::new(stretch);
            change(&mut recent);
            tenants.insert(tenant.into(), recent);
        }
    }

    /// Takes what this replica has refused and has not told, of the `most` tenants with the most of it. It counts as told.
    pub(crate) fn take_untold(&self, most: usize) -> Vec<Refused> {
        if !self.has_untold.swap(false, Ordering::Relaxed) {
            return Vec::new();
        }
        let mut untold = self.untold();
        if untold.len() > most {
            untold.sort_unstable_by_key(|refused| Reverse(refused.count));
            untold.truncate(most);
            self.has_untold.store(true, Ordering::Relaxed);
        }
        for refused in &untold {
            if let Some(mut tenants) = self.by_organization.get_mut(&refused.org_id)
                && let Some(recent) = tenants.get_mut(&*refused.tenant)
            {
                recent.untold = recent.untold.saturating_sub(refused.count);
            }
        }
        untold
    }

    fn untold(&self) -> Vec<Refused> {
        let mut untold = Vec::new();
        for organization in &self.by_organization {
            for (tenant, recent) in organization.value() {
                if recent.untold > 0 {
                    untold.push(Refused {
                        org_id: *organization.key(),
                        tenant: tenant.clone(),
                        count: recent.untold,
                    });
                }
            }
        }
        untold
    }

    /// The tenants of a realm that were refused the most often, `most` of them, with how often that was.
    pub(crate) fn most(&self, realm: &Realm, most: usize) -> Vec<(String, u64)> {
        self.most_at(self.stretch(), realm, most)
    }

    fn most_at(&self, stretch: u64, realm: &Realm, most: usize) -> Vec<(String, u64)> {
        let Some(tenants) = self.by_organization.get(&realm.org_id) else {
            return Vec::new();
        };
        let is_seen = |tenant: &str| realm.tenant().is_none_or(|own| own == tenant);
        let refused = tenants.iter().filter(|(tenant, _)| is_seen(tenant));
        let refused = refused.map(|(tenant, recent)| (String::from(&**tenant), recent.sum(stretch)));
        let mut refused: Vec<_> = refused.filter(|(_, count)| *count > 0).collect();
        refused.sort_unstable_by(|(a, of_a), (b, of_b)| of_b.cmp(of_a).then_with(|| a.cmp(b)));
        refused.truncate(most);
        refused
    }

    /// Forgets who was not refused in the last minute.
    pub(crate) fn sweep(&self) {
        self.sweep_at(self.stretch());
    }

    fn sweep_at(&self, stretch: u64) {
        self.by_organization.retain(|_, tenants| {
            tenants.retain(|_, recent| recent.sum(stretch) > 0);
            !tenants.is_empty()
        });
    }

    fn stretch(&self) -> u64 {
        self.started.elapsed().as_secs() / STRETCH_SECONDS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(refusals: &Refusals, stretch: u64, realm: &Realm) -> Vec<(String, u64)> {
        refusals.most_at(stretch, realm, 2)
    }

    fn pairs(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        let pairs = pairs.iter();
        pairs
            .map(|(tenant, count)| ((*tenant).to_owned(), *count))
            .collect()
    }

    #[test]
    fn those_who_were_refused_the_most_often_in_the_last_minute_are_told_to_whom_they_belong() {
        let refusals = Refusals::default();
        let (org, other) = (OrgId::generate(), OrgId::generate());
        let (all, others) = (Realm::of_organization(org), Realm::of_organization(other));
        for (stretch, tenant) in [(0, "a"), (0, "b"), (1, "b"), (2, "c"), (2, "c"), (2, "c")] {
            refusals.note_at(stretch, org, tenant);
        }
        assert_eq!(refused(&refusals, 2, &all), pairs(&[("c", 3), ("b", 2)]));
        assert_eq!(refused(&refusals, 6, &all), pairs(&[("c", 3), ("b", 1)]));
        assert_eq!(refused(&refusals, 8, &all), pairs(&[]));
        assert_eq!(refused(&refusals, 2, &others), pairs(&[]));
        let of_a = Realm {
            tenant: Some("a".parse().unwrap()),
            ..all.clone()
        };
        assert_eq!(refused(&refusals, 2, &of_a), pairs(&[("a", 1)]));

        // One who comes again begins anew.
        refusals.note_at(40, org, "a");
        assert_eq!(refused(&refusals, 40, &all), pairs(&[("a", 1)]));
        refusals.sweep_at(40);
        assert_eq!(
            refusals.by_organization.get(&org).map(|tenants| tenants.len()),
            Some(1)
        );
        refusals.sweep_at(46);
        assert!(refusals.by_organization.is_empty());
    }

    #[test]
    fn what_one_replica_refuses_is_told_once_and_counted_by_the_others() {
        let (one, other) = (Refusals::default(), Refusals::default());
        let org = OrgId::generate();
        let all = Realm::of_organization(org);
        for tenant in ["a", "b", "b"] {
            one.note_at(0, org, tenant);
        }
        other.note_at(0, org, "a");
        let told = one.take_untold(1);
        let tenants: Vec<_> = told
            .iter()
            .map(|refused| (&*refused.tenant, refused.count))
            .collect();
        assert_eq!(tenants, [("b", 2)]);
        other.hear_at(0, &told);
        other.hear_at(0, &one.take_untold(1));
        assert_eq!(refused(&other, 0, &all), pairs(&[("a", 2), ("b", 2)]));
        assert!(one.take_untold(1).is_empty());
        // What was heard is not told on.
        let own = other.take_untold(9);
        assert_eq!((own.len(), &*own[0].tenant, own[0].count), (1, "a", 1));
    }

    #[test]
    fn an_organization_with_very_many_refused_tenants_takes_bounded_memory() {
        let (refusals, org) = (Refusals::default(), OrgId::generate());
        for number in 0..=MOST_TENANTS {
            refusals.note_at(0, org, &number.to_string());
        }
        let held = refusals.by_organization.get(&org).map(|tenants| tenants.len());
        assert_eq!(held, Some(MOST_TENANTS));
    }
}
