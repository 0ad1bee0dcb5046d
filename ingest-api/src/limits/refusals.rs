//! Which tenants their own limits have refused in the last minute, on this replica. A request that is let through costs nothing
//! here.

use std::collections::HashMap;
use std::time::Instant;

use dashmap::DashMap;
use shared::domain::id::OrgId;

use crate::domain::realm::Realm;

/// Refusals are counted in stretches of this many seconds, for a minute.
const STRETCH_SECONDS: u64 = 10;
const STRETCHES: usize = 6;

/// Tenants of one organisation that are counted at once. Further ones are not.
const MOST_TENANTS: usize = 1_000;

/// The refusals of the last minute.
#[derive(Debug)]
pub(crate) struct Refusals {
    by_organization: DashMap<OrgId, HashMap<Box<str>, Recent>>,
    started: Instant,
}

impl Default for Refusals {
    fn default() -> Self {
        Self {
            by_organization: DashMap::new(),
            started: Instant::now(),
        }
    }
}

/// A tenant's refusals.
#[derive(Clone, Copy, Debug)]
struct Recent {
    /// The stretch of the first of these counts; each other one is of the stretch before.
    stretch: u64,
    counts: [u32; STRETCHES],
}

impl Recent {
    fn new(stretch: u64) -> Self {
        Self {
            stretch,
            counts: [0; STRETCHES],
        }
    }

    /// How many of the counts are too old at this stretch.
    fn passed(&self, stretch: u64) -> usize {
        let passed = stretch.saturating_sub(self.stretch);
        usize::try_from(passed).unwrap_or(STRETCHES).min(STRETCHES)
    }

    fn note(&mut self, stretch: u64) {
        let passed = self.passed(stretch);
        self.counts.rotate_right(passed);
        self.counts[..passed].fill(0);
        self.stretch = self.stretch.max(stretch);
        self.counts[0] = self.counts[0].saturating_add(1);
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
        let mut tenants = self.by_organization.entry(org_id).or_default();
        if let Some(recent) = tenants.get_mut(tenant) {
            recent.note(stretch);
        } else if tenants.len() < MOST_TENANTS {
            let mut recent = Recent::new(stretch);
            recent.note(stretch);
            tenants.insert(tenant.into(), recent);
        }
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
    fn an_organization_with_very_many_refused_tenants_takes_bounded_memory() {
        let (refusals, org) = (Refusals::default(), OrgId::generate());
        for number in 0..=MOST_TENANTS {
            refusals.note_at(0, org, &number.to_string());
        }
        let held = refusals.by_organization.get(&org).map(|tenants| tenants.len());
        assert_eq!(held, Some(MOST_TENANTS));
    }
}
