//! What the removal of a tenant and that of an organisation share.

use std::time::Duration;

use shared::domain::id::OrgId;
use sqlx::PgConnection;

/// Rows in one transaction, and transactions for one owner in one round.
pub(super) const STEP: i64 = 500;
pub(super) const STEPS: usize = 100;

/// How much further than the clock of nats-server that of Postgres may be.
pub(super) const CLOCKS_APART: Duration = Duration::from_secs(5);

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
