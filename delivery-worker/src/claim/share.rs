//! What each endpoint may be sent in one claim.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::EndpointId;
use time::OffsetDateTime;

use super::survey::Waiting;
use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::{Permit, Permits};
use crate::record::probes::Probe;

/// What one endpoint may be sent in a claim.
pub(super) struct Share {
    pub endpoint: Arc<Endpoint>,
    pub waiting: Waiting,
    /// Until when no other worker sends its probe, if this one sends it.
    pub probe_until: Option<OffsetDateTime>,
    /// How many deliveries it may still take.
    pub turns: usize,
    /// Taken when it is known that something is due.
    pub permits: Vec<Permit>,
    /// It was given permits.
    pub served: bool,
    /// How long its deliveries are leased.
    pub lease: Duration,
}

impl Share {
    /// Takes permits until it has `count`, or as many as there are turns or free permits.
    pub(super) fn take_permits(&mut self, permits: &Permits, count: usize) {
        let missing = count.min(self.turns).saturating_sub(self.permits.len());
        let found = std::iter::from_fn(|| permits.try_acquire(&self.endpoint.gate));
        self.permits.extend(found.take(missing));
        self.served |= !self.permits.is_empty();
    }

    /// The lease in milliseconds.
    pub(super) fn lease_ms(&self) -> i64 {
        i64::try_from(self.lease.as_millis()).unwrap_or(i64::MAX)
    }

    /// How many permits it has.
    pub(super) fn take(&self) -> i32 {
        i32::try_from(self.permits.len()).unwrap_or(i32::MAX)
    }

    /// How many turns it has.
    pub(super) fn turns(&self) -> i32 {
        i32::try_from(self.turns).unwrap_or(i32::MAX)
    }
}

/// Rotates the shares, so that all get permits in turn, however few permits there are.
pub(super) fn begin_after(shares: &mut [Share], last: Option<EndpointId>) {
    shares.sort_unstable_by_key(|share| (Some(share.endpoint.id) <= last, share.endpoint.id));
}

/// Probes that found no due delivery: an ordered one may wait for another one of its key. In the order of their endpoints, in which
/// results lock the same rows.
pub(super) fn unused_probes(shares: &[Share]) -> Vec<Probe> {
    let unused = shares.iter().filter(|share| share.turns > 0);
    let probes = unused.filter_map(|share| {
        Some(Probe {
            endpoint_id: share.endpoint.id,
            until: share.probe_until?,
        })
    });
    let mut probes: Vec<_> = probes.collect();
    probes.sort_unstable_by_key(|probe| probe.endpoint_id);
    probes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::endpoint::tests::{key, row};
    use crate::endpoints::retry::tests::default_policy;

    /// What an endpoint of its own may be sent: one probe, which was taken or not.
    fn share(probe_until: Option<OffsetDateTime>) -> Share {
        let endpoint = row().endpoint(None, &key(), &default_policy()).unwrap();
        Share {
            waiting: Waiting {
                endpoint_id: endpoint.id,
                due_seconds: None,
                ordered_seconds: Some(1.0),
                probe_seconds: Some(1.0),
            },
            endpoint: Arc::new(endpoint),
            probe_until,
            turns: 1,
            permits: Vec::new(),
            served: false,
            lease: Duration::from_secs(1),
        }
    }

    #[test]
    fn probes_are_given_back_in_the_order_of_their_endpoints_wherever_the_claim_began() {
        let until = Some(OffsetDateTime::UNIX_EPOCH);
        let mut shares: Vec<_> = (0..5).map(|_| share(until)).collect();
        shares.push(share(None));
        let mut ids: Vec<_> = shares[..5].iter().map(|share| share.endpoint.id).collect();
        ids.sort_unstable();
        begin_after(&mut shares, Some(ids[2]));
        let unused: Vec<_> = unused_probes(&shares)
            .iter()
            .map(|probe| probe.endpoint_id)
            .collect();
        assert_eq!(unused, ids);
    }
}
