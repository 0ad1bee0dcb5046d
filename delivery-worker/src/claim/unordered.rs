//! Claiming deliveries without an ordering key: those that are due longest first.

use sqlx::PgConnection;

use super::{Claimed, Share, claimed};
use crate::endpoints::permits::Permits;

/// Leases as many due deliveries of each endpoint as its share can get permits.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn claim(
    connection: &mut PgConnection,
    shares: &mut [Share],
    permits: &Permits,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let due = shares.iter_mut().filter(|share| share.waiting.has_due());
    let due = due.map(|share| {
        share.take_permits(permits, share.turns);
        &*share
    });
    let shares: Vec<_> = due.filter(|share| !share.permits.is_empty()).collect();
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    claimed::lease_longest_due(connection, &shares).await
}
