//! Who owns endpoints and keys, and how much they may have.

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::words;

use crate::domain::accounts::maximum::Maximum;
use crate::domain::accounts::tenant::TenantStatus;
use crate::store::{Result, Stored};

/// Most endpoints that are not deleted: of a tenant, and of an organisation besides those of its tenants. An event may go to
/// each.
pub(in crate::store) const MAX_ENDPOINTS: Maximum = Maximum {
    owner: "the organisation",
    what: "endpoints",
    count: 1_000,
    remedy: "delete",
};

/// Most endpoints of an organisation and all its tenants: workers hold them in memory.
pub(in crate::store) const MAX_ENDPOINTS_IN_ALL: Maximum = Maximum {
    owner: "the organisation",
    what: "endpoints, those of tenants included",
    count: 100_000,
    remedy: "delete",
};

/// Most tenants of an organisation.
pub(in crate::store) const MAX_TENANTS: Maximum = Maximum {
    owner: "the organisation",
    what: "tenants",
    count: 100_000,
    remedy: "delete",
};

words! {
    /// Whether an organisation, or its tenant, may have one more endpoint, as Postgres answers it.
    pub(in crate::store) enum Admission("admission of an endpoint") {
        /// It may.
        Admitted = "admitted",
        /// There is no such tenant, and none is to be made.
        NoTenant = "no_tenant",
        /// The tenant is being deleted.
        TenantLeaves = "tenant_leaves",
        /// The tenant is new, and there are [`MAX_TENANTS`].
        TenantsFull = "tenants_full",
        /// There are [`MAX_ENDPOINTS`].
        OwnerFull = "owner_full",
        /// There are [`MAX_ENDPOINTS_IN_ALL`].
        AllFull = "all_full",
    }
}

impl Admission {
    /// The same as the result of an insert, which `done` says more of when it was admitted.
    pub(in crate::store) fn into_stored<T>(
        self,
        is_of_tenant: bool,
        done: impl FnOnce() -> Result<T>,
    ) -> Result<Stored<T>> {
        Ok(match self {
            Self::Admitted => Stored::Done(done()?),
            Self::NoTenant => Stored::Missing,
            Self::TenantLeaves => Stored::OwnerLeaves,
            Self::TenantsFull => Stored::Full(MAX_TENANTS),
            Self::OwnerFull => Stored::Full(MAX_ENDPOINTS.of_tenant(is_of_tenant)),
            Self::AllFull => Stored::Full(MAX_ENDPOINTS_IN_ALL),
        })
    }
}

/// Whether an organisation may have one more endpoint of no tenant. It is locked until the transaction ends.
pub(in crate::store) async fn admit_endpoint(
    transaction: &mut Transaction,
    org_id: OrgId,
) -> Result<Stored<()>> {
    let admission = sqlx::query_scalar!(
        r#"select admission as "admission!: Admission" from admit_endpoint($1, null, false, $2, $3, $4)"#,
        org_id.as_uuid(),
        MAX_ENDPOINTS.count,
        MAX_ENDPOINTS_IN_ALL.count,
        MAX_TENANTS.count,
    );
    match admission.fetch_optional(&mut **transaction).await? {
        Some(admission) => admission.into_stored(false, || Ok(())),
        None => Ok(Stored::Missing),
    }
}

/// Keeps a tenant from being changed or deleted until the transaction ends. None when there is no such tenant.
pub(super) async fn lock_tenant(
    transaction: &mut Transaction,
    org_id: OrgId,
    tenant: &Tenant,
) -> Result<Option<TenantStatus>> {
    let found = sqlx::query_scalar!(
        r#"select status as "status: TenantStatus" from tenants where org_id = $1 and uid = $2 for share"#,
        org_id.as_uuid(),
        tenant.as_str(),
    );
    found.fetch_optional(&mut **transaction).await
}

/// Makes a tenant that is not there, unless there are [`MAX_TENANTS`]. The caller holds the organisation's lock.
pub(super) async fn add_tenant(
    transaction: &mut Transaction,
    org_id: OrgId,
    tenant: &Tenant,
) -> Result<Option<Maximum>> {
    let tenants = sqlx::query_scalar!(
        "select tenants from organizations where id = $1",
        org_id.as_uuid()
    );
    if i64::from(tenants.fetch_one(&mut **transaction).await?) >= MAX_TENANTS.count {
        return Ok(Some(MAX_TENANTS));
    }
    sqlx::query!(
        "insert into tenants (org_id, uid) values ($1, $2)",
        org_id.as_uuid(),
        tenant.as_str(),
    )
    .execute(&mut **transaction)
    .await?;
    Ok(None)
}
