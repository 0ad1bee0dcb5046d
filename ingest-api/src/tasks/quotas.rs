//! Keeping in step with Postgres which quotas are used up. While it cannot be asked, they stay as they are, until their month
//! ends.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use tokio_util::sync::CancellationToken;

use crate::limits::limiter::AccountId;
use crate::limits::quotas::{Quotas, UsedUp};
use crate::store::Store;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Reads which are used up, again and again, until the stop.
pub(crate) async fn follow(store: Store, quotas: Arc<Quotas>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match store.used_up_quotas().await {
            Ok(read) => quotas.replace(
                read.into_iter()
                    .map(|quota| {
                        let account = match &*quota.tenant {
                            "" => quota.org_id.into(),
                            tenant => AccountId::of_tenant(quota.org_id, tenant),
                        };
                        let used_up = UsedUp {
                            events_per_month: quota.events_per_month,
                            until: UnixMicros::from(quota.until),
                        };
                        (account, used_up)
                    })
                    .collect(),
            ),
            Err(error) => tracing::debug!(%error, "what is known of quotas stays as it is"),
        }
    }
    Ok(())
}
