//! What becomes of events: a delivery for each endpoint that takes one, and what it starts with.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::domain::event::Event;
use shared::domain::id::{EndpointId, LeaseToken};

use crate::endpoints::directory::Snapshot;
use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::{Permit, Permits, Waiter};
use crate::endpoints::subscribers::Taker;
use crate::intake::early::Early;
use crate::intake::early::lack::Lack;
use crate::intake::frame::Located;
use crate::slices::Slices;
use crate::store::events::NewDelivery;

/// When a statement has this many deliveries, the next event waits for the next statement: an organisation may have many
/// endpoints.
pub(crate) const MAX_DELIVERIES: usize = 4_000;

/// Steps of making a delivery ready to be stored.
const STEPS_OF_DELIVERY: usize = 20;

/// What becomes of the first `events` of some events.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// How many of them it is about.
    pub events: usize,
    /// Their deliveries.
    pub deliveries: Vec<Planned<'a>>,
    /// Endpoints with due deliveries that only the claimer may start, as it keeps their order or pace.
    pub for_claimer: HashSet<EndpointId>,
    /// Endpoints with deliveries that found no permit.
    pub parked: HashMap<EndpointId, Arc<Endpoint>>,
}

/// What events are planned for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose<'a> {
    /// They begin before they are stored. An event that finds no permit may ask again when it is this one's turn.
    Beginning(&'a Waiter),
    /// They are stored. What has begun early is planned as it stands. A delivery that finds no permit is left due in the table,
    /// and newer events queue up behind it.
    Storing(Option<&'a Early>),
}

/// Whether an event can begin before it is stored.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// All its deliveries can start.
    Ready(Vec<Start>),
    /// They could if there were permits for them.
    Waits(Lack),
    /// Something else keeps it: only the claimer may start one of its deliveries, or older events have waited in the table for
    /// longer.
    Cannot,
}

impl Beginning {
    /// Adds one more delivery: what it starts with, or the endpoint whose permits it lacks. The permits of an event that does not
    /// begin are freed.
    fn and(self, start: Option<Start>, parked: Option<&Arc<Endpoint>>) -> Self {
        let lacking = parked.filter(|endpoint| endpoint.gate.takes_new_soon());
        match (self, start, lacking) {
            (Self::Ready(mut starts), Some(start), _) => {
                starts.push(start);
                Self::Ready(starts)
            }
            (Self::Ready(starts), None, Some(endpoint)) => Self::Waits(Lack {
                endpoint: endpoint.clone(),
                permits: starts.len() + 1,
            }),
            (Self::Waits(lack), None, Some(endpoint)) => Self::Waits(Lack {
                endpoint: endpoint.clone(),
                permits: lack.permits + 1,
            }),
            (Self::Waits(lack), Some(_), _) => Self::Waits(Lack {
                permits: lack.permits + 1,
                ..lack
            }),
            (Self::Cannot, ..) | (_, None, None) => Self::Cannot,
        }
    }
}

impl Plan<'_> {
    /// Which events can begin, by their numbers. Those without a delivery are not among them.
    pub(crate) fn into_beginnings(self) -> Vec<(usize, Beginning)> {
        let Self {
            deliveries, parked, ..
        } = self;
        let mut beginnings: Vec<(usize, Beginning)> = Vec::new();
        for Planned { delivery, start } in deliveries {
            let of_event = beginnings.pop_if(|(event, _)| *event == delivery.event);
            let so_far = of_event.map_or(Beginning::Ready(Vec::new()), |(_, so_far)| so_far);
            let with_this = so_far.and(start, parked.get(&delivery.endpoint_id));
            beginnings.push((delivery.event, with_this));
        }
        beginnings
    }
}

/// A delivery to be written, and what lets it start as soon as it is.
#[derive(Debug)]
pub(crate) struct Planned<'a> {
    pub delivery: NewDelivery<'a>,
    pub start: Option<Start>,
}

/// What a delivery starts with.
#[derive(Debug)]
pub(crate) struct Start {
    pub endpoint: Arc<Endpoint>,
    pub permit: Permit,
    pub lease: LeaseToken,
}

/// Plans deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Planner {
    /// What limits the deliveries that start at once.
    pub permits: Permits,
    /// How much longer a lease lasts than the endpoint's timeout.
    pub lease_margin: Duration,
}

impl Planner {
    /// Plans a delivery for each event and each endpoint that wants it, leased if it may start and finds a permit. Stops after
    /// the event with which there are [`MAX_DELIVERIES`] or more.
    pub(crate) async fn plan<'a>(
        &self,
        endpoints: &Snapshot,
        events: &'a [Located<'_>],
        purpose: Purpose<'_>,
    ) -> Plan<'a> {
        let mut plan = Plan::default();
        let mut slices = Slices::new();
        for located in events {
            if let Some(begun) = self.add_begun(&mut plan, located, endpoints.version, purpose) {
                let takers = endpoints.takers(&located.event, &mut slices).await;
                slices.spend(takers.len() * STEPS_OF_DELIVERY).await;
                let others = |taker: &Taker<'_>| !begun.contains(&taker.subscriber.endpoint_id);
                for taker in takers.into_iter().filter(others) {
                    self.add(&mut plan, located, taker, purpose);
                }
            }
            plan.events += 1;
            if plan.deliveries.len() >= MAX_DELIVERIES {
                break;
            }
        }
        plan
    }

    /// Adds the deliveries of the next event that have begun, and returns their endpoints. `None` when it has no others, because
    /// the endpoints are still those of `version`.
    fn add_begun(
        &self,
        plan: &mut Plan<'_>,
        located: &Located<'_>,
        version: i64,
        purpose: Purpose<'_>,
    ) -> Option<HashSet<EndpointId>> {
        let mut endpoints = HashSet::new();
        let Purpose::Storing(Some(early)) = purpose else {
            return Some(endpoints);
        };
        let mut begun = early.begun();
        let Some(begun) = begun.get_mut(&located.event.id) else {
            return Some(endpoints);
        };
        for delivery in begun.begin_storing() {
            let lease = (delivery.lease, delivery.endpoint.timeout + self.lease_margin);
            let ended = delivery.progress.ended().cloned();
            plan.deliveries.push(Planned {
                delivery: NewDelivery::begun(plan.events, delivery.endpoint.id, lease, ended),
                start: None,
            });
            endpoints.insert(delivery.endpoint.id);
        }
        (begun.version != version).then_some(endpoints)
    }

    /// Adds the delivery of the next event to one endpoint that takes it.
    fn add<'a>(&self, plan: &mut Plan<'a>, located: &'a Located<'_>, taker: Taker<'_>, purpose: Purpose<'_>) {
        let mut delivery = NewDelivery::of(plan.events, taker);
        delivery.order = taker.subscriber.ordered.then(|| located.order()).flatten();
        let webhook = taker.subscriber.target.webhook();
        let webhook = webhook.filter(|_| !taker.is_undecided);
        let start = webhook.and_then(|endpoint| self.permit_start(endpoint, &located.event, purpose));
        match webhook {
            Some(endpoint) if !endpoint.may_start(&located.event) => {
                plan.for_claimer.insert(endpoint.id);
            }
            Some(endpoint) if start.is_none() => {
                plan.parked.insert(endpoint.id, endpoint.clone());
            }
            _ => {}
        }
        delivery.lease = start
            .as_ref()
            .map(|start| (start.lease, start.endpoint.timeout + self.lease_margin));
        plan.deliveries.push(Planned { delivery, start });
    }

    /// What a delivery of `event` to `endpoint` starts with, if it may start and finds a permit.
    fn permit_start(
        &self,
        endpoint: &Arc<Endpoint>,
        event: &Event<'_>,
        purpose: Purpose<'_>,
    ) -> Option<Start> {
        if !endpoint.may_start(event) {
            return None;
        }
        let permit = match purpose {
            Purpose::Beginning(waiter) => self.permits.try_acquire_early(&endpoint.gate, waiter)?,
            Purpose::Storing(_) => self.permits.try_acquire_for_new(&endpoint.gate)?,
        };
        Some(Start {
            endpoint: endpoint.clone(),
            permit,
            lease: LeaseToken::generate(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::endpoint::tests::{key, row};
    use crate::endpoints::retry::tests::default_policy;

    #[test]
    fn an_event_that_waits_holds_no_permit_and_needs_one_for_each_delivery() {
        let endpoint = row().endpoint(None, &key(), &default_policy()).unwrap();
        let (endpoint, permits) = (Arc::new(endpoint), Permits::new(4));
        let start = || {
            Some(Start {
                endpoint: endpoint.clone(),
                permit: permits.try_acquire(&endpoint.gate).unwrap(),
                lease: LeaseToken::generate(),
            })
        };
        let mut beginning = Beginning::Ready(Vec::new());
        for start in [start(), None, start(), None] {
            let parked = start.is_none().then_some(&endpoint);
            beginning = beginning.and(start, parked);
        }
        assert!(matches!(beginning, Beginning::Waits(Lack { permits: 4, .. })));
        assert_eq!(permits.in_use(), 0);
    }
}
