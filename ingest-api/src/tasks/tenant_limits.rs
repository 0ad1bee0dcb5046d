//! Keeping the limits of tenants in step with Postgres. While it cannot be asked, they stay as they are.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::accounts::limit::Limit;
use crate::keys::moment::Moment;
use crate::limits::limiter::AccountId;
use crate::limits::tenants::TenantLimits;
use crate::store::{LATE_COMMIT, Store};

/// Pause between two looks for changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Reads all limits, and then those that were changed, until the stop.
pub(crate) async fn follow(
    store: Store,
    limits: Arc<TenantLimits>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut read_at: Option<Moment> = None;
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let asked_at = Moment::now();
        let within = read_at.map(|read_at| read_at.elapsed() + LATE_COMMIT);
        // Where none has a limit, none can have lost it. So tenants that are made by the thousand are not read.
        match store.tenant_limits(within, !limits.is_empty()).await {
            Ok(read) => {
                read_at = Some(asked_at);
                limits.change(read.into_iter().map(|read| {
                    let account = AccountId::of_tenant(read.org_id, &read.tenant);
                    (account, read.per_minute.map(Limit::per_minute))
                }));
            }
            Err(error) => tracing::debug!(%error, "the limits of tenants stay as they are"),
        }
    }
    Ok(())
}
