//! Dividing the free permits among the endpoints that may have due rows.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::Claimer;
use super::pace;
use super::share::Share;
use super::survey::Waiting;
use crate::endpoints::directory::Snapshot;
use crate::record::probes;

/// Most deliveries of one endpoint in one claim.
const MAX_PER_ENDPOINT: usize = 50;

impl Claimer {
    /// How many deliveries each endpoint may be sent now: as permits and its rate limit allow, and one if it is a probe that
    /// no other worker sends.
    pub(super) async fn shares(
        &self,
        connection: &mut PgConnection,
        endpoints: &Snapshot,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<Share>, sqlx::Error> {
        let sendable = waiting.into_iter().filter(|waiting| {
            let has_any = waiting.has_due() || waiting.has_ordered();
            has_any && !waiting.is_held()
        });
        let enabled: Vec<_> = sendable
            .filter_map(|waiting| Some((endpoints.get(waiting.endpoint_id)?.clone(), waiting)))
            .collect();
        let fair_share = (self.permits.available() / enabled.len().max(1)).clamp(1, MAX_PER_ENDPOINT);
        let shares = enabled.into_iter().map(|(endpoint, waiting)| {
            let most = if waiting.is_probe() { 1 } else { fair_share };
            if waiting.has_due() {
                endpoint.gate.set_backlogged(true);
            }
            Share {
                turns: endpoint.gate.available().min(most),
                lease: endpoint.timeout + self.lease_margin,
                permits: Vec::new(),
                served: false,
                endpoint,
                waiting,
                probe_until: None,
            }
        });
        let mut shares: Vec<_> = shares.filter(|share| share.turns > 0).collect();
        pace::take_turns(connection, &mut shares).await?;
        self.take_probes(connection, &mut shares).await?;
        Ok(shares)
    }

    async fn take_probes(
        &self,
        connection: &mut PgConnection,
        shares: &mut Vec<Share>,
    ) -> Result<(), sqlx::Error> {
        for share in shares.iter_mut().filter(|share| share.waiting.is_probe()) {
            share.take_permits(&self.permits, 1);
        }
        // Left to a worker that has a permit.
        shares.retain(|share| !share.waiting.is_probe() || share.served);
        let probes = shares.iter().filter(|share| share.waiting.is_probe());
        let probes: Vec<_> = probes.map(|share| (share.endpoint.id, share.lease)).collect();
        if probes.is_empty() {
            return Ok(());
        }
        let taken = probes::take_probes(connection, &probes).await?;
        let taken: HashMap<_, _> = taken
            .into_iter()
            .map(|probe| (probe.endpoint_id, probe.until))
            .collect();
        for share in shares.iter_mut() {
            share.probe_until = taken.get(&share.endpoint.id).copied();
        }
        shares.retain(|share| !share.waiting.is_probe() || share.probe_until.is_some());
        Ok(())
    }
}
