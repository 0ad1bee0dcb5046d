//! The endpoints that get the events of one tenant, of no tenant or of all, and which of them an event goes to.

use std::sync::{Arc, OnceLock};

use shared::domain::event::{Event, is_json};
use shared::domain::filter::{Asked, FilterSet, PayloadFilter, Progress, Values};
use shared::domain::id::EndpointId;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::event_types::EventTypes;
use crate::endpoints::lazy::LazyEndpoint;
use crate::slices::{SLICE, Slices};

/// Pointers of an organisation's filters beyond which they are sorted on another thread.
const MANY_POINTERS: usize = 500;

/// Steps of finding out whether a type matches an endpoint's patterns.
pub(crate) const STEPS_OF_TYPES: usize = 5;

/// An enabled endpoint of either kind, and which of the events it wants.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Where its deliveries go.
    pub target: Target,
    /// Deliveries that have an ordering key keep their order.
    pub ordered: bool,
    /// The types that it wants.
    pub types: Arc<EventTypes>,
    /// What it wants of their payloads.
    pub filter: Option<Arc<PayloadFilter>>,
}

/// Where an endpoint's deliveries go.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// To its URL.
    Webhook(Arc<LazyEndpoint>),
    /// To its owner, who fetches them.
    Pull,
}

impl Target {
    /// Whether its owner fetches the deliveries.
    pub(crate) fn is_pull(&self) -> bool {
        matches!(self, Self::Pull)
    }

    /// The endpoint that deliveries are sent to, opened or not.
    pub(crate) fn lazy(&self) -> Option<&Arc<LazyEndpoint>> {
        match self {
            Self::Webhook(endpoint) => Some(endpoint),
            Self::Pull => None,
        }
    }

    /// The endpoint that this worker can send deliveries to. When it cannot, they wait in the table for one that can.
    pub(crate) fn webhook(&self) -> Option<&Arc<Endpoint>> {
        self.lazy()?.get()
    }
}

/// Enabled endpoints that get the events of the same tenants.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subscribers {
    all: Vec<Subscriber>,
    /// The filters of those that have one, in their order. Made for the first event that needs it.
    filters: OnceLock<Arc<FilterSet>>,
}

/// A subscriber that an event goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taker<'a> {
    pub subscriber: &'a Subscriber,
    /// Its filter was not evaluated: the filters before it took all steps of this event.
    pub is_undecided: bool,
}

impl<'a> Taker<'a> {
    fn of(subscriber: &'a Subscriber) -> Self {
        Self {
            subscriber,
            is_undecided: false,
        }
    }
}

/// A filter, and its number in the set of all.
type Numbered<'a> = (&'a Arc<PayloadFilter>, usize);

impl Subscribers {
    pub(crate) fn insert(&mut self, subscriber: Subscriber) {
        self.filters = OnceLock::new();
        if self.all.is_empty() {
            // Most tenants have one.
            self.all.reserve_exact(1);
        }
        self.all.push(subscriber);
    }

    pub(crate) fn remove(&mut self, id: EndpointId) {
        self.filters = OnceLock::new();
        self.all.retain(|subscriber| subscriber.endpoint_id != id);
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// How many want events of a type, whatever their filters say.
    pub(crate) fn count(&self, event_type: &str) -> usize {
        let wants = |subscriber: &&Subscriber| subscriber.types.contain(event_type);
        self.all.iter().filter(wants).count()
    }

    /// Those that want an event, or the one that it is for. Its payload is read when one that wants its type has a
    /// filter, once for all of them. Their evaluation is taken off `steps`: what those do not suffice for is undecided.
    pub(crate) async fn takers(
        &self,
        event: &Event<'_>,
        steps: &mut u32,
        slices: &mut Slices,
    ) -> Vec<Taker<'_>> {
        if let Some(id) = event.only_to {
            let target = self.all.iter().filter(|subscriber| subscriber.endpoint_id == id);
            return target.map(Taker::of).collect();
        }
        slices.spend(self.all.len() * STEPS_OF_TYPES).await;
        let mut filters = 0..;
        let numbered = self.all.iter().map(|subscriber| {
            let filter = subscriber.filter.as_ref();
            (
                subscriber,
                filter.and_then(|filter| Some((filter, filters.next()?))),
            )
        });
        let wanting: Vec<_> = numbered
            .filter(|(subscriber, _)| subscriber.types.contain(event.event_type))
            .collect();
        if wanting.iter().all(|(_, filter)| filter.is_none()) {
            return wanting
                .into_iter()
                .map(|(subscriber, _)| Taker::of(subscriber))
                .collect();
        }
        self.judge(wanting, event, steps, slices).await
    }

    async fn judge<'a>(
        &'a self,
        wanting: Vec<(&'a Subscriber, Option<Numbered<'a>>)>,
        event: &Event<'_>,
        steps: &mut u32,
        slices: &mut Slices,
    ) -> Vec<Taker<'a>> {
        let set = self.filter_set().await;
        let asks_data =
            |(_, filter): &(_, Option<Numbered<'_>>)| filter.is_some_and(|(filter, _)| filter.asks_data());
        let values = if wanting.iter().any(asks_data) {
            read(&set, event, slices).await
        } else {
            None
        };
        let asked = Asked {
            event_type: event.event_type,
            tenant: event.tenant,
            values: values.as_ref(),
        };
        let mut takers = Vec::new();
        for (subscriber, filter) in wanting {
            let mut taker = Taker::of(subscriber);
            if let Some((filter, number)) = filter {
                // What is not JSON, or not to its end, matches no filter that asks about it.
                if values.is_none() && filter.asks_data() {
                    continue;
                }
                slices.spend(filter.steps() as usize).await;
                match steps.checked_sub(set.steps(number, asked)) {
                    Some(left) => *steps = left,
                    None => taker.is_undecided = true,
                }
                if !taker.is_undecided && !passes(&set, number, asked, slices).await {
                    continue;
                }
            }
            takers.push(taker);
        }
        takers
    }

    async fn filter_set(&self) -> Arc<FilterSet> {
        if let Some(set) = self.filters.get() {
            return set.clone();
        }
        let filters: Vec<_> = self
            .all
            .iter()
            .filter_map(|subscriber| subscriber.filter.clone())
            .collect();
        let pointers: usize = filters.iter().map(|filter| filter.pointers()).sum();
        let copies = filters.clone();
        let made = if pointers > MANY_POINTERS {
            tokio::task::spawn_blocking(|| FilterSet::new(copies)).await.ok()
        } else {
            None
        };
        self.filters
            .get_or_init(|| Arc::new(made.unwrap_or_else(|| FilterSet::new(filters))))
            .clone()
    }
}

/// Whether a filter lets an event pass. Searches in long texts let others have their turn.
async fn passes(set: &FilterSet, number: usize, asked: Asked<'_>, slices: &mut Slices) -> bool {
    let Some(mut judging) = set.judge(number, asked) else {
        return false;
    };
    loop {
        match judging.go_on() {
            Progress::Paused(steps) => slices.spend(steps).await,
            Progress::Decided(decision) => return decision.passes,
        }
    }
}

/// What the filters ask about in an event's payload; `None` when it is not JSON.
async fn read<'e>(set: &FilterSet, event: &Event<'e>, slices: &mut Slices) -> Option<Values<'e>> {
    if !is_json(event.content_type) {
        return None;
    }
    let mut scan = set.scan(event.data).ok()?;
    while !scan.advance(SLICE / 2).ok()? {
        slices.spend(SLICE / 2).await;
    }
    slices.spend(event.data.len().min(SLICE / 2)).await;
    Some(scan.into_values())
}

#[cfg(test)]
mod tests;
