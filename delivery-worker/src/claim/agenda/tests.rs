use uuid::Uuid;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u128) -> EndpointId {
    Uuid::from_u128(number).into()
}

fn waiting(number: u128, due_seconds: f64) -> Waiting {
    Waiting {
        endpoint_id: id(number),
        due_seconds: Some(due_seconds),
        ordered_seconds: None,
        probe_seconds: None,
    }
}

fn all_due(agenda: &mut Agenda, now: Instant) -> Vec<EndpointId> {
    agenda.due(now, 10, |_| Some(true))
}

#[test]
fn an_endpoint_is_looked_at_when_something_of_it_is_due_and_not_before() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    agenda.looked(now, &[waiting(1, -10.0), waiting(2, 3.0)]);
    assert_eq!(all_due(&mut agenda, now), [id(2)]);
    assert_eq!(all_due(&mut agenda, now + 9 * SECOND), [id(2)]);
    assert_eq!(all_due(&mut agenda, now + 10 * SECOND), [id(2), id(1)]);
    agenda.note(id(1), now + 5 * SECOND, now);
    agenda.note(id(1), now + 20 * SECOND, now);
    assert_eq!(all_due(&mut agenda, now + 5 * SECOND), [id(2), id(1)]);
    assert!(agenda.has_due(id(2)) && !agenda.has_due(id(1)));

    let nothing = Waiting {
        due_seconds: None,
        ..waiting(2, 0.0)
    };
    agenda.looked(now, &[nothing]);
    assert_eq!(all_due(&mut agenda, now + 5 * SECOND), [id(1)]);
}

#[test]
fn those_without_due_deliveries_are_told_once() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    agenda.looked(now, &[waiting(1, 1.0), waiting(2, 1.0), waiting(3, -3.0)]);
    assert_eq!(agenda.take_without_due(), [id(3)]);
    assert!(agenda.take_without_due().is_empty());

    let nothing = Waiting {
        due_seconds: None,
        ..waiting(2, 0.0)
    };
    agenda.looked(now, &[waiting(1, 2.0), nothing]);
    assert_eq!(agenda.take_without_due(), [id(2)]);
    assert!(agenda.take_without_due().is_empty());
}

#[test]
fn one_whose_circuit_is_open_is_looked_at_when_its_pause_is_over() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    let open = Waiting {
        probe_seconds: Some(-30.0),
        ..waiting(1, 3.0)
    };
    agenda.looked(now, &[open]);
    assert!(!agenda.has_due(id(1)));
    assert!(all_due(&mut agenda, now + 29 * SECOND).is_empty());
    assert_eq!(all_due(&mut agenda, now + 30 * SECOND), [id(1)]);
}

#[test]
fn those_that_have_waited_the_longest_come_first_and_the_disabled_are_put_off() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    let later = now + SECOND;
    agenda.looked(now, &[waiting(1, 0.0), waiting(2, 0.0), waiting(3, 0.0)]);
    assert_eq!(agenda.due(later, 1, |_| Some(true)), [id(1)]);
    agenda.looked(later, &[waiting(1, 1.0)]);
    assert_eq!(agenda.due(later, 1, |_| Some(true)), [id(2)]);
    let without = |disabled| move |asked| (asked != id(disabled)).then_some(true);
    assert_eq!(agenda.due(later, 10, without(2)), [id(3), id(1)]);
    assert_eq!(all_due(&mut agenda, later), [id(3), id(1)]);
    assert_eq!(all_due(&mut agenda, later + PUT_OFF), [id(3), id(1), id(2)]);
}

#[test]
fn the_walk_goes_round_without_a_pause_first_and_forgets_what_is_gone() {
    let (mut agenda, now) = (Agenda::default(), Instant::now());
    agenda.looked(now, &[waiting(9, -1.0)]);
    let later = now + SECOND;
    assert_eq!(agenda.next_walk(later), Some(WalkFrom(None)));
    agenda.walked(later, &[id(1), id(2)], true, |_| true);
    assert!(agenda.is_first_round());
    assert_eq!(agenda.next_walk(later), Some(WalkFrom(Some(id(2)))));
    agenda.walked(later, &[id(3)], false, |asked| asked != id(9));
    assert!(!agenda.is_first_round());
    assert_eq!(all_due(&mut agenda, later + 9 * SECOND), [id(1), id(2), id(3)]);
    agenda.walked(now.checked_sub(SECOND).unwrap_or(now), &[], false, |_| true);
    let after = Instant::now();
    assert_eq!(agenda.next_walk(after), None);
    assert_eq!(agenda.next_walk(after + LONGEST_WALK_PAUSE), Some(WalkFrom(None)));
}
