//! Keeping the limits of tenants in step with Postgres. While it cannot be asked, they stay as they are.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::domain::limit::Limit;
use crate::limits::limiter::AccountId;
use crate::limits::tenants::TenantLimits;
use crate::store::Store;

/// Pause between two looks for changes.
const INTERVAL: Duration = Duration::from_millis(500);

/// A change may be committed this long after the time that it bears.
const LATE: Duration = Duration::from_secs(10);

/// Reads changed limits until the stop.
pub(crate) async fn follow(
    store: Store,
    limits: Arc<TenantLimits>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut seen = OffsetDateTime::UNIX_EPOCH;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match store.changed_tenant_limits(seen - LATE).await {
            Ok(changed) => {
                seen = changed.iter().map(|limit| limit.changed_at).fold(seen, Ord::max);
                limits.change(changed.into_iter().map(|changed| {
                    let account = AccountId::of_tenant(changed.org_id, &changed.tenant);
                    (account, changed.per_minute.map(Limit::per_minute))
                }));
            }
            Err(error) => tracing::debug!(%error, "the limits of tenants stay as they are"),
        }
    }
    Ok(())
}
