//! The quotas that are used up and whose events are refused, as Postgres had them when it was last asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use shared::domain::clock::UnixMicros;

use crate::limits::limiter::AccountId;

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UsedUp {
    /// The quota.
    pub events_per_month: u64,
    /// The end of the month.
    pub until: UnixMicros,
}

/// Whose events are refused.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    used_up: RwLock<HashMap<AccountId, UsedUp>>,
    /// Whether there is one. Every request reads it: unlike a lock it is not written, so that cores do not wait for it.
    is_any: AtomicBool,
}

impl Quotas {
    /// The quota of an organisation or a tenant, if it is used up now. It costs nothing while none is.
    pub(crate) fn find(&self, account: impl FnOnce() -> AccountId) -> Option<UsedUp> {
        if !self.is_any.load(Ordering::Relaxed) {
            return None;
        }
        let used_up = self.used_up.read().unwrap_or_else(PoisonError::into_inner);
        let quota = *used_up.get(&account())?;
        (quota.until > UnixMicros::now()).then_some(quota)
    }

    /// Takes in which are used up; the others are not.
    pub(crate) fn replace(&self, used_up: HashMap<AccountId, UsedUp>) {
        let mut known = self.used_up.write().unwrap_or_else(PoisonError::into_inner);
        self.is_any.store(!used_up.is_empty(), Ordering::Relaxed);
        *known = used_up;
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::id::OrgId;

    use super::*;

    #[test]
    fn a_quota_is_used_up_until_its_month_ends_or_it_is_not_read_any_more() {
        let (quotas, now) = (Quotas::default(), UnixMicros::now().get());
        let (one, other) = (OrgId::generate(), OrgId::generate());
        let until = |micros| UsedUp {
            events_per_month: 10,
            until: UnixMicros::new(micros),
        };
        let (later, before) = (until(now + 3_600_000_000), until(now - 1));
        quotas.replace([(one.into(), later), (other.into(), before)].into());
        assert_eq!(quotas.find(|| one.into()), Some(later));
        assert_eq!(quotas.find(|| other.into()), None, "its month is over");
        assert_eq!(quotas.find(|| AccountId::of_tenant(one, "a")), None);
        quotas.replace(HashMap::new());
        assert_eq!(quotas.find(|| one.into()), None);
    }
}
