//! What becomes of events: a delivery for each endpoint that takes one, and what it starts with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::domain::event::Event;
use shared::domain::id::{EndpointId, LeaseToken};

use crate::endpoints::directory::Snapshot;
use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permit;
use crate::endpoints::subscribers::Taker;
use crate::intake::frame::Located;
use crate::intake::storing::Storing;
use crate::slices::Slices;
use crate::store::events::NewDelivery;

/// Deliveries in one statement, beyond which the next event waits for the next one: an organisation may have many
/// endpoints.
pub const MAX_DELIVERIES: usize = 4_000;

/// Steps of making a delivery ready to be stored.
const STEPS_OF_DELIVERY: usize = 20;

/// What comes of the first `events` of some events.
pub struct FannedOut<'a> {
    /// How many of them it is about.
    pub events: usize,
    /// Their deliveries.
    pub deliveries: Vec<NewDelivery<'a>>,
    /// For each delivery, what lets it start as soon as it is stored.
    pub starts: Vec<Option<Start>>,
    /// Endpoints with deliveries that are due, in order or at a pace that only the claimer keeps.
    pub for_claimer: HashSet<EndpointId>,
    /// Endpoints with deliveries that found no permit.
    pub parked: HashMap<EndpointId, Arc<Endpoint>>,
}

/// What a delivery starts with.
pub struct Start {
    pub endpoint: Arc<Endpoint>,
    pub permit: Permit,
    pub lease: LeaseToken,
}

impl Storing {
    /// A delivery for each event and each endpoint that wants it, leased where it may start and there is a permit.
    /// At least one event, and as many as give no more than [`MAX_DELIVERIES`] before the last.
    pub async fn fan_out<'a>(&self, endpoints: &Snapshot, events: &'a [Located<'_>]) -> FannedOut<'a> {
        let mut fanned_out = FannedOut {
            events: 0,
            deliveries: Vec::new(),
            starts: Vec::new(),
            for_claimer: HashSet::new(),
            parked: HashMap::new(),
        };
        let mut slices = Slices::new();
        for located in events {
            let takers = endpoints.takers(&located.event, &mut slices).await;
            slices.spend(takers.len() * STEPS_OF_DELIVERY).await;
            for taker in takers {
                self.add(&mut fanned_out, located, taker);
            }
            fanned_out.events += 1;
            if fanned_out.deliveries.len() >= MAX_DELIVERIES {
                break;
            }
        }
        fanned_out
    }

    /// Adds the delivery of the next event to one that takes it.
    fn add<'a>(&self, fanned_out: &mut FannedOut<'a>, located: &'a Located<'_>, taker: Taker<'_>) {
        let mut delivery = NewDelivery::of(fanned_out.events, taker);
        delivery.order = taker.subscriber.ordered.then(|| located.order()).flatten();
        let push = taker.subscriber.target.webhook().filter(|_| !taker.is_undecided);
        let start = push.and_then(|endpoint| self.permit_start(endpoint, &located.event));
        match push {
            Some(endpoint) if !endpoint.may_start(&located.event) => {
                fanned_out.for_claimer.insert(endpoint.id);
            }
            Some(endpoint) if start.is_none() => {
                fanned_out.parked.insert(endpoint.id, endpoint.clone());
            }
            _ => {}
        }
        let lease = start
            .as_ref()
            .map(|start| (start.lease, start.endpoint.timeout + self.lease_margin));
        fanned_out.deliveries.push(NewDelivery { lease, ..delivery });
        fanned_out.starts.push(start);
    }

    fn permit_start(&self, endpoint: &Arc<Endpoint>, event: &Event<'_>) -> Option<Start> {
        if !endpoint.may_start(event) {
            return None;
        }
        let permit = self.permits.try_acquire_for_new(&endpoint.gate)?;
        Some(Start {
            endpoint: endpoint.clone(),
            permit,
            lease: LeaseToken::generate(),
        })
    }
}
