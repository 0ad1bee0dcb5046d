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

/// Probes that found no due delivery: an ordered one may wait for another one of its key.
pub(super) fn unused_probes(shares: &[Share]) -> Vec<Probe> {
    let unused = shares.iter().filter(|share| share.turns > 0);
    let probes = unused.filter_map(|share| {
        Some(Probe {
            endpoint_id: share.endpoint.id,
            until: share.probe_until?,
        })
    });
    probes.collect()
}
