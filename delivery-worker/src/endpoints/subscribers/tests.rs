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
fn takers(subscribers: &Subscribers, event: &Event<'_>, mut steps: u32) -> Vec<(usize, bool)> {
    let mut slices = Slices::new();
    let takers = subscribers.takers(event, &mut steps, &mut slices);
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
    let (mut slices, mut steps) = (Slices::new(), ENOUGH);
    let mut takers = Box::pin(subscribers.takers(&event, &mut steps, &mut slices));
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
fn a_filter_of_types_and_tenants_takes_events_with_any_payload() {
    let subscribers = subscribers([subscriber(
        &[],
        Some(r#"{"type":{"prefix":"order."},"tenant":"acme"}"#),
    )]);
    let order = Event {
        content_type: "text/plain",
        tenant: Some("acme"),
        ..event("order.created", b"\xff")
    };
    let wants = |event: &Event<'_>| !takers(&subscribers, event, ENOUGH).is_empty();
    assert!(wants(&order));
    assert!(!wants(&Event {
        tenant: None,
        ..order
    }));
    assert!(!wants(&Event {
        event_type: "invoice.paid",
        ..order
    }));
}

#[test]
fn searches_in_long_texts_let_others_have_their_turn_and_are_counted() {
    let search = r#"{"any":[{"/a":{"contains":"x"}},{"/a":{"contains":"y","ignore_case":true}}]}"#;
    let subscribers = subscribers([subscriber(&[], Some(search))]);
    let data = format!(r#"{{"a":"{}"}}"#, "a".repeat(8 * SLICE));
    let event = event("a", data.as_bytes());
    let judged = |mut steps: u32| {
        let mut slices = Slices::new();
        let mut takers = Box::pin(subscribers.takers(&event, &mut steps, &mut slices));
        let mut turns = 0;
        loop {
            if let Some(found) = takers.as_mut().now_or_never() {
                return (found.len(), turns);
            }
            turns += 1;
        }
    };
    let (undecided, to_read) = judged(ENOUGH);
    let (found, turns) = judged(1_000_000);
    assert_eq!(
        (undecided, found),
        (1, 0),
        "a search takes more steps than there are"
    );
    assert!(turns >= to_read + 2, "{turns}, {to_read} to read");
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
