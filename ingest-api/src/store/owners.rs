//! Who owns endpoints and keys, and how much they may have.

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

use super::Result;
use crate::domain::maximum::Maximum;
use crate::domain::tenant::TenantStatus;

/// Most endpoints that are not deleted: of a tenant, and of an organisation besides those of its tenants. An event may go to
/// each.
const MAX_ENDPOINTS: Maximum = Maximum {
    owner: "the organisation",
    what: "endpoints",
    count: 1_000,
    remedy: "delete",
};

/// Most endpoints of an organisation and all its tenants: workers hold them in memory.
const MAX_ENDPOINTS_IN_ALL: Maximum = Maximum {
    owner: "the organisation",
    what: "endpoints, those of tenants included",
    count: 100_000,
    remedy: "delete",
};

/// Most tenants of an organisation.
pub(super) const MAX_TENANTS: Maximum = Maximum {
    owner: "the organisation",
    what: "tenants",
    count: 100_000,
    remedy: "delete",
};

/// An organisation, or its tenant, that is to have one more endpoint.
pub(super) struct Owner {
    /// Endpoints of the organisation and all its tenants.
    in_all: i64,
    /// Endpoints beside the new one.
    here: i64,
    /// Tenants of the organisation.
    pub tenants: i64,
    /// The tenant's status, if there is such a tenant.
    pub tenant: Option<TenantStatus>,
}

impl Owner {
    /// The limit that one more endpoint would exceed.
    pub(super) fn reached(&self, tenant: Option<&Tenant>) -> Option<Maximum> {
        let limits = [
            (self.here, MAX_ENDPOINTS.of_tenant(tenant.is_some())),
            (self.in_all, MAX_ENDPOINTS_IN_ALL),
        ];
        let reached = limits.into_iter().find(|(count, most)| *count >= most.count);
        reached.map(|(_, most)| most)
    }
}

/// Looks at what limits a new endpoint. The caller holds the organisation's lock.
pub(super) async fn look_at_owner(
    transaction: &mut Transaction,
    org_id: OrgId,
    tenant: Option<&Tenant>,
) -> Result<Owner> {
    sqlx::query_as!(
        Owner,
        r#"select o.endpoints::bigint as "in_all!", o.tenants::bigint as "tenants!", t.status as "tenant?: TenantStatus",
                  case when $2::text is null then (
                      select count(*) from endpoints e where e.org_id = $1 and e.tenant is null and e.deleted_at is null
                  ) else (
                      select count(*) from endpoints e where e.org_id = $1 and e.tenant = $2 and e.deleted_at is null
                  ) end as "here!"
           from organizations o left join tenants t on t.org_id = o.id and t.uid = $2
           where o.id = $1"#,
        org_id.as_uuid(),
        tenant.map(Tenant::as_str),
    )
    .fetch_one(&mut **transaction)
    .await
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
