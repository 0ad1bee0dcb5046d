use shared::domain::id::OrgId;
use uuid::Uuid;

use super::*;
use crate::store::MAX_COUNTED;

/// An event and when others can see it: its statement has ended then. Times are milliseconds after the beginning.
struct Row {
    visible: i64,
    event: TailedEvent,
}

fn at(millis: i64) -> OffsetDateTime {
    UnixMicros::new(1_700_000_000_000_000 + millis * 1_000).to_date_time()
}

fn row(number: i64, accepted: i64, stored: i64, visible: i64) -> Row {
    Row {
        visible,
        event: TailedEvent {
            id: EventId::from(Uuid::from_u128(number.unsigned_abs().into())),
            accepted_at: at(accepted),
            stored_at: at(stored),
            event_type: "a".to_owned(),
            tenant: None,
        },
    }
}

fn strand(arrival: Arrival) -> Strand {
    Strand::new(arrival, &Realm::of_organization(OrgId::generate()), at(0))
}

/// As the statements count.
fn count(strand: &Strand, events: &[&TailedEvent], seconds: &Range<i64>) -> Seconds {
    let times = events
        .iter()
        .filter(|event| strand.wants(event))
        .map(|event| second(strand.key(event).0));
    let mut counts: BTreeMap<i64, i64> = BTreeMap::new();
    for second in times.filter(|second| seconds.contains(second)) {
        *counts.entry(second).or_default() += 1;
    }
    let all: i64 = counts.values().sum();
    (all <= MAX_COUNTED).then(|| counts.into_iter().collect())
}

/// What a strand tells in a look at these rows.
fn turn(strand: &mut Strand, rows: &[Row], now: i64) -> News {
    let visible = rows.iter().filter(|row| row.visible <= now);
    let events: Vec<_> = visible.map(|row| &row.event).collect();
    let from = time_of(strand.settled);
    let mut found: Vec<_> = events
        .iter()
        .filter(|event| strand.arrival == Arrival::InTime || event.arrival() == Arrival::Late)
        .filter(|event| strand.key(event).0 >= from)
        .map(|event| (*event).clone())
        .collect();
    found.sort_by_key(|event| strand.key(event));
    let found = found.split_off(found.len().saturating_sub(MOST_EVENTS));
    let asked = strand.ask(&found, at(now));
    let counts = [&asked.passed, &asked.left].map(|seconds| count(strand, &events, seconds));
    strand.take(found, &asked, counts, at(now))
}

/// What both strands tell in looks once a second: how many events, each once, and how many were counted.
fn listen(rows: &[Row]) -> (usize, u64) {
    let mut strands = [Arrival::InTime, Arrival::Late].map(strand);
    let (mut told, mut skipped) = (HashSet::new(), 0);
    for now in 0..140 {
        for strand in &mut strands {
            let news = turn(strand, rows, now * 1_000 + 500);
            assert!(!news.has_uncounted);
            skipped += news.skipped;
            for event in news.events {
                assert!(told.insert(event.id), "told twice at {now}: {event:?}");
            }
        }
    }
    (told.len(), skipped)
}

#[test]
fn an_event_is_told_however_late_it_is_stored() {
    let rows: Vec<_> = (0..1_000)
        .map(|number| {
            let accepted = number * 50;
            let stored = accepted + if number % 7 == 0 { 40_000 } else { 20 };
            row(number, accepted, stored, stored + 100)
        })
        .collect();
    assert_eq!(listen(&rows), (rows.len(), 0));
}

#[test]
fn a_burst_after_a_quiet_minute_is_counted_without_what_was_told_before() {
    let mut rows: Vec<_> = (0..3).map(|number| row(number, 200, 200, 200)).collect();
    rows.extend((3..1_000).map(|number| row(number, 60_000, 60_000, 60_000)));
    assert_eq!(listen(&rows), (3 + MOST_EVENTS, 497));
}

#[test]
fn every_event_is_told_once_or_counted_once_whatever_the_order_in_which_they_are_stored() {
    let mut rows = Vec::new();
    for number in 0..12_000 {
        // 150 a second, and once 3 000 in a second.
        let accepted = if number % 4 == 0 {
            20_000 + number % 1_000
        } else {
            number * 5
        };
        let stored = accepted
            + match number % 11 {
                0 => 4_900,
                1 => 9_000,
                2 => 30_000,
                other => other * 30,
            };
        let visible = stored
            + match number % 13 {
                0 => 20_000,
                1 => 3_000,
                _ => 20,
            };
        rows.push(row(number, accepted, stored, visible));
    }
    let (told, skipped) = listen(&rows);
    assert_eq!(told as u64 + skipped, rows.len() as u64);
    assert!(told > 6_000 && skipped > 1_000, "{told} {skipped}");
}

#[test]
fn more_than_are_counted_are_said_to_be_there() {
    let rows: Vec<_> = (0..20_000)
        .map(|number| row(number, number / 20, number / 20, number / 20))
        .collect();
    let mut strand = strand(Arrival::InTime);
    let news = turn(&mut strand, &rows, 2_000);
    assert_eq!((news.events.len(), news.skipped), (MOST_EVENTS, 0));
    assert!(news.has_uncounted);
    let news = turn(&mut strand, &rows, 3_000);
    assert!(news.events.is_empty() && news.skipped == 0 && !news.has_uncounted);
}

#[test]
fn what_was_stored_before_and_what_is_of_another_tenant_is_not_told_and_not_counted() {
    let realm = Realm {
        tenant: Some("own".parse().unwrap()),
        ..Realm::of_organization(OrgId::generate())
    };
    let mut strand = Strand::new(Arrival::Late, &realm, at(0));
    let mut rows: Vec<_> = (0..1_200)
        .map(|number| row(number, -60_000, if number < 2 { -1 } else { number }, number))
        .collect();
    for (number, row) in rows.iter_mut().enumerate() {
        let tenant = if number % 100 == 1 { "own" } else { "other" };
        row.event.tenant = Some(tenant.to_owned());
    }
    let news = turn(&mut strand, &rows, 2_000);
    assert_eq!((news.events.len(), news.skipped), (5, 6));
}
