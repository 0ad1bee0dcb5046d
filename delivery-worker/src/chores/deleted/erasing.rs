//! What the removal of a tenant and that of an organisation share.

use std::time::Duration;

use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

/// Rows in one transaction, and transactions for one owner in one round.
pub(super) const STEP: i64 = 500;
pub(super) const STEPS: usize = 100;

/// An entry's place in the audit log.
pub(super) type Place = (OffsetDateTime, Uuid);

/// Before every entry.
pub(super) const BEGINNING: Place = (OffsetDateTime::UNIX_EPOCH, Uuid::nil());

/// How much further than the clock of nats-server that of Postgres may be.
pub(in crate::chores) const CLOCKS_APART: Duration = Duration::from_secs(5);

/// The audit log tells nothing of what follows in the transaction, and its entries may be emptied.
pub(super) async fn begin_erasing(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select set_config('penstock.erasing', 'on', true)")
        .fetch_one(&mut *transaction)
        .await?;
    Ok(())
}

/// Locks the organisation before anything of it, as everybody does.
pub(super) async fn lock(transaction: &mut PgConnection, id: OrgId) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "select from organizations where id = $1 for no key update",
        id.as_uuid(),
    )
    .fetch_optional(&mut *transaction)
    .await?;
    Ok(())
}

/// Empties the next entries of the audit log after a place, of an organisation or of one of its tenants, and moves the place on. Who did
/// something and when stays. Returns how many. To be called after [`begin_erasing`].
pub(super) async fn empty_audit_log(
    transaction: &mut PgConnection,
    id: OrgId,
    tenant: Option<&Tenant>,
    through: &mut Place,
) -> Result<u64, sqlx::Error> {
    let (at, entry) = *through;
    let emptied = sqlx::query!(
        "with next as materialized (
             select id from audit_log
             where org_id = $1 and (at, id) > ($2::timestamptz, $3::uuid) and ($5::text is null or tenant = $5)
               and (tenant is not null or before is not null or after is not null
                    or kind = 'tenant' and subject <> '(deleted)')
             order by at, id limit $4
         )
         update audit_log a
         set tenant = null, before = null, after = null,
             subject = case when a.kind = 'tenant' then '(deleted)' else a.subject end
         from next where a.id = next.id
         returning a.at, a.id",
        id.as_uuid(),
        at,
        entry,
        STEP,
        tenant.map(Tenant::as_str),
    )
    .fetch_all(transaction)
    .await?;
    let last = emptied.iter().map(|entry| (entry.at, entry.id)).max();
    *through = last.unwrap_or(*through);
    Ok(emptied.len() as u64)
}
