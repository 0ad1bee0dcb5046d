//! An organisation's endpoints, and which of them an event goes to.

use std::sync::{Arc, OnceLock};

use shared::domain::event::{Event, is_json};
use shared::domain::filter::{FilterSet, PayloadFilter, Values};
use shared::domain::id::EndpointId;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::event_types::EventTypes;
use crate::slices::{SLICE, Slices};

/// Pointers of an organisation's filters beyond which they are sorted on another thread.
const MANY_POINTERS: usize = 500;

/// Steps of finding out whether a type matches an endpoint's patterns.
pub const STEPS_OF_TYPES: usize = 5;

/// An enabled endpoint of either kind, and which of its organisation's events it wants.
#[derive(Clone, Debug)]
pub struct Subscriber {
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
pub enum Target {
    /// To its URL. `None` when this worker cannot send them: they wait in the table for one that can.
    Webhook(Option<Arc<Endpoint>>),
    /// To its owner, who fetches them.
    Pull,
}

impl Target {
    /// Whether its owner fetches the deliveries.
    pub fn is_pull(&self) -> bool {
        matches!(self, Self::Pull)
    }

    /// The endpoint that this worker can send deliveries to.
    pub fn webhook(&self) -> Option<&Arc<Endpoint>> {
        match self {
            Self::Webhook(endpoint) => endpoint.as_ref(),
            Self::Pull => None,
        }
    }
}

/// An organisation's enabled endpoints.
#[derive(Clone, Debug, Default)]
pub struct Subscribers {
    all: Vec<Subscriber>,
    /// The filters of those that have one, in their order. Made for the first event that needs it.
    filters: OnceLock<Arc<FilterSet>>,
}

/// A subscriber that an event goes to.
#[derive(Clone, Copy, Debug)]
pub struct Taker<'a> {
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
    pub fn insert(&mut self, subscriber: Subscriber) {
        self.filters = OnceLock::new();
        self.all.push(subscriber);
    }

    pub fn remove(&mut self, id: EndpointId) {
        self.filters = OnceLock::new();
        self.all.retain(|subscriber| subscriber.endpoint_id != id);
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many want events of a type, whatever their filters say.
    pub fn count(&self, event_type: &str) -> usize {
        let wants = |subscriber: &&Subscriber| subscriber.types.contain(event_type);
        self.all.iter().filter(wants).count()
    }

    /// Those that want an event, or the one that it is for. Its payload is read when one that wants its type has a
    /// filter, once for all of them. Their evaluation takes at most `steps`: what is left then is undecided.
    pub async fn takers(&self, event: &Event<'_>, steps: u32, slices: &mut Slices) -> Vec<Taker<'_>> {
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
        mut steps: u32,
        slices: &mut Slices,
    ) -> Vec<Taker<'a>> {
        let set = self.filter_set().await;
        let values = read(&set, event, slices).await;
        let mut takers = Vec::new();
        for (subscriber, filter) in wanting {
            let mut taker = Taker::of(subscriber);
            if let Some((filter, number)) = filter {
                // What is not JSON, or not to its end, matches no filter.
                let Some(values) = &values else { continue };
                slices.spend(filter.steps() as usize).await;
                match steps.checked_sub(filter.steps()) {
                    Some(left) => steps = left,
                    None => taker.is_undecided = true,
                }
                if !taker.is_undecided && !set.matches(number, values) {
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
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const ENOUGH: u32 = 1_000;

    fn event<'a>(event_type: &'a str, data: &'a [u8]) -> Event<'a> {
        Event {
            event_type,
            data,
            ..Event::sample()
        }
    }

    fn subscriber(event_types: &[&str], filter: Option<&str>) -> Subscriber {
        let patterns: Vec<_> = event_types.iter().map(|text| text.parse().unwrap()).collect();
        Subscriber {
            endpoint_id: EndpointId::generate(),
            target: Target::Pull,
            ordered: false,
            types: Arc::new(EventTypes::new(&patterns)),
            filter: filter.map(|filter| Arc::new(PayloadFilter::parse(filter).unwrap())),
        }
    }

    fn subscribers<const N: usize>(all: [Subscriber; N]) -> Subscribers {
        let mut subscribers = Subscribers::default();
        for subscriber in all {
            subscribers.insert(subscriber);
        }
        subscribers
    }

    /// For each taker its place, and whether its filter was left undecided.
    fn takers(subscribers: &Subscribers, event: &Event<'_>, steps: u32) -> Vec<(usize, bool)> {
        let mut slices = Slices::new();
        let takers = subscribers.takers(event, steps, &mut slices);
        let takers = takers.now_or_never().expect("it is less than a slice");
        let place = |taker: &Taker<'_>| {
            let ids = subscribers.all.iter().map(|subscriber| subscriber.endpoint_id);
            ids.into_iter()
                .position(|id| id == taker.subscriber.endpoint_id)
                .unwrap()
        };
        takers
            .iter()
            .map(|taker| (place(taker), taker.is_undecided))
            .collect()
    }

    #[test]
    fn a_filter_looks_at_json_payloads_of_the_right_type() {
        let subscribers = subscribers([subscriber(&["order.*"], Some(r#"{"/total":{"gt":100}}"#))]);
        let large = br#"{"total":101}"#;
        let wants = |event: &Event<'_>| !takers(&subscribers, event, ENOUGH).is_empty();
        assert!(wants(&event("order.created", large)));
        assert!(!wants(&event("order.created", br#"{"total":100}"#)));
        assert!(!wants(&event("invoice.paid", large)));
        let text = Event {
            content_type: "text/plain",
            ..event("order.created", large)
        };
        assert!(!wants(&text));
    }

    #[test]
    fn filters_beyond_the_steps_of_an_event_are_undecided_and_the_others_are_not() {
        let filter = Some(r#"{"/total":{"gt":100},"/a":{"exists":false}}"#);
        let subscribers = subscribers([
            subscriber(&["order.*"], filter),
            subscriber(&[], Some(r#"{"/total":1}"#)),
            subscriber(&["order.*"], filter),
            subscriber(&["other"], filter),
            subscriber(&[], None),
        ]);
        let event = event("order.created", br#"{"total":101}"#);
        assert_eq!(
            takers(&subscribers, &event, ENOUGH),
            [(0, false), (2, false), (4, false)]
        );
        let steps = subscribers
            .all
            .iter()
            .filter_map(|subscriber| subscriber.filter.as_ref());
        let steps: Vec<_> = steps.map(|filter| filter.steps()).collect();
        let first_two = takers(&subscribers, &event, steps[0] + steps[1]);
        assert_eq!(first_two, [(0, false), (2, true), (4, false)]);
        assert_eq!(
            takers(&subscribers, &event, 0),
            [(0, true), (1, true), (2, true), (4, false)]
        );
        let text = Event {
            data: b"hello",
            ..event
        };
        assert_eq!(takers(&subscribers, &text, 0), [(4, false)]);
    }

    #[test]
    fn a_long_payload_lets_others_have_their_turn() {
        let subscribers = subscribers([subscriber(&[], Some(r#"{"/a":1}"#))]);
        let data = format!(r#"{{"a":1,"b":[{}0]}}"#, "0,".repeat(4 * SLICE));
        let event = event("a", data.as_bytes());
        let mut slices = Slices::new();
        let mut takers = Box::pin(subscribers.takers(&event, ENOUGH, &mut slices));
        let mut turns = 0;
        let found = loop {
            if let Some(found) = takers.as_mut().now_or_never() {
                break found;
            }
            turns += 1;
        };
        assert_eq!(found.len(), 1);
        assert!(turns >= 4, "{turns}");
    }

    #[test]
    fn an_event_for_one_endpoint_goes_there_whatever_it_filters_and_nowhere_else() {
        let (target, other) = (
            subscriber(&["order.*"], Some(r#"{"/a":1}"#)),
            subscriber(&[], None),
        );
        let only_to = Some(target.endpoint_id);
        let subscribers = subscribers([target, other]);
        let event = event("endpoint.test", b"1");
        assert_eq!(takers(&subscribers, &event, ENOUGH), [(1, false)]);
        assert_eq!(
            takers(&subscribers, &Event { only_to, ..event }, ENOUGH),
            [(0, false)]
        );
    }
}
