//! The limits and quotas that admitted requests count against.

use std::sync::PoisonError;

use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;

use super::Admitted;
use crate::app::App;
use crate::domain::access::grant::Grant;
use crate::domain::accounts::limit::Limit;
use crate::http::error::ApiError;
use crate::limits::gcra::Decision;
use crate::limits::limiter::AccountId;
use crate::limits::quotas::UsedUp;

impl Admitted {
    /// Takes `cost` more requests out of the limit, all or none. Admission has taken one already, so a batch of `n` events
    /// charges `n - 1`.
    ///
    /// # Errors
    /// 429 when the limit has less left; 422 when the whole limit is less than that.
    pub(crate) fn charge(&self, cost: u64) -> Result<(), ApiError> {
        let whole = self.lowest_limit().get();
        if cost >= whole {
            let detail = format!(
                "costs {} requests of a rate limit of {whole} a minute: send it in parts",
                cost.saturating_add(1),
            );
            return Err(ApiError::invalid("body", detail));
        }
        let grant = &self.0.key.grant;
        let mut decision = check_limits(&self.0.app, grant, cost);
        if !decision.admitted {
            decision = decision.for_a_repeat();
        }
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner) = decision;
        within_limit(&decision)
    }

    /// The organisation's limit, or that of the tenant that the key is bound to if it is lower.
    fn lowest_limit(&self) -> Limit {
        let Grant { realm, limit, .. } = &self.0.key.grant;
        let of_tenant = realm.tenant().and_then(|tenant| {
            let account = || AccountId::of_tenant(realm.org_id, tenant);
            self.0.app.tenant_limits.find(account)
        });
        of_tenant.map_or(*limit, |(_, own)| {
            std::cmp::min_by_key(own, *limit, |limit| limit.get())
        })
    }

    /// Takes one request out of the own limit of a tenant that the key is not bound to.
    ///
    /// # Errors
    /// 429 when the limit is used up.
    pub(crate) fn charge_tenant(&self, tenant: &str) -> Result<(), ApiError> {
        let org_id = self.0.key.grant.realm.org_id;
        let Some(decision) = check_tenant(&self.0.app, org_id, tenant, 1) else {
            return Ok(());
        };
        let mut last = self.0.decision.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.nearer(decision);
        within_limit(&decision)
    }

    /// Checks that events may be sent by the quotas of the organisation, and of the tenant that the key is bound to.
    ///
    /// # Errors
    /// 429 when one is used up.
    pub(crate) fn check_quotas(&self) -> Result<(), ApiError> {
        let realm = self.realm();
        within_quota(&self.0.app, "organisation", || realm.org_id.into())?;
        realm
            .tenant()
            .map_or(Ok(()), |tenant| self.check_quota_of(tenant))
    }

    /// Checks that events of a tenant may be sent by its own quota.
    ///
    /// # Errors
    /// 429 when it is used up.
    pub(crate) fn check_quota_of(&self, tenant: &str) -> Result<(), ApiError> {
        let account = || AccountId::of_tenant(self.realm().org_id, tenant);
        within_quota(&self.0.app, "tenant", account)
    }
}

/// Takes `cost` requests out of the organisation's limit, and out of that of the tenant that the key is bound to. Returns the
/// decision that is nearer to a refusal.
pub(crate) fn check_limits(app: &App, grant: &Grant, cost: u64) -> Decision {
    let realm = &grant.realm;
    let check_organization = || app.rate_limiter.check(realm.org_id.into(), grant.limit, cost);
    let Some(of_tenant) = realm
        .tenant()
        .and_then(|tenant| check_tenant(app, realm.org_id, tenant, cost))
    else {
        return check_organization();
    };
    // A request that the tenant may not make costs the others nothing.
    if of_tenant.admitted {
        of_tenant.nearer(check_organization())
    } else {
        of_tenant
    }
}

/// Takes `cost` requests out of a tenant's own limit. None when it has none.
fn check_tenant(app: &App, org_id: OrgId, tenant: &str, cost: u64) -> Option<Decision> {
    let account = || AccountId::of_tenant(org_id, tenant);
    let (account, limit) = app.tenant_limits.find(account)?;
    let decision = app.rate_limiter.check(account, limit, cost);
    if !decision.admitted {
        app.tenant_limits.refusals.note(org_id, tenant);
    }
    Some(decision)
}

/// Refuses events beyond a quota.
fn within_quota(app: &App, owner: &'static str, account: impl FnOnce() -> AccountId) -> Result<(), ApiError> {
    let Some(UsedUp {
        events_per_month,
        until,
    }) = app.quotas.find(account)
    else {
        return Ok(());
    };
    metrics::counter!("penstock_quota_refusals_total").increment(1);
    let micros = until.get().saturating_sub(UnixMicros::now().get());
    Err(ApiError::QuotaUsedUp {
        owner,
        events_per_month,
        retry_after: u64::try_from(micros).unwrap_or(0) / 1_000_000 + 1,
    })
}

/// Refuses a request beyond the limit.
///
/// # Errors
/// 429.
pub(crate) fn within_limit(decision: &Decision) -> Result<(), ApiError> {
    if decision.admitted {
        return Ok(());
    }
    Err(ApiError::RateLimited {
        retry_after: decision.reset_seconds(),
    })
}
