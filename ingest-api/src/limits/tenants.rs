//! The limits of tenants that have one of their own.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::domain::accounts::limit::Limit;
use crate::limits::limiter::AccountId;
use crate::limits::refusals::Refusals;

/// The limits, as Postgres had them when it was last asked, and whom they refused.
#[derive(Debug, Default)]
pub(crate) struct TenantLimits {
    limits: RwLock<HashMap<AccountId, Limit>>,
    /// Whom they refused lately.
    pub refusals: Refusals,
}

impl TenantLimits {
    /// The limit of a tenant, if it has one. It costs nothing while no tenant has one.
    pub(crate) fn find(&self, tenant: impl FnOnce() -> AccountId) -> Option<(AccountId, Limit)> {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        if limits.is_empty() {
            return None;
        }
        let account = tenant();
        Some((account, *limits.get(&account)?))
    }

    /// Whether no tenant has one.
    pub(crate) fn is_empty(&self) -> bool {
        let limits = self.limits.read().unwrap_or_else(PoisonError::into_inner);
        limits.is_empty()
    }

    /// Takes in changed limits; `None` is no limit.
    pub(crate) fn change(&self, changes: impl IntoIterator<Item = (AccountId, Option<Limit>)>) {
        let mut limits = self.limits.write().unwrap_or_else(PoisonError::into_inner);
        for (account, limit) in changes {
            match limit {
                Some(limit) => _ = limits.insert(account, limit),
                None => _ = limits.remove(&account),
            }
        }
    }
}
