//! The checker of histories finds what it looks for.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::{History, Ordered, Receipt, Verdict};
use shared::domain::id::EventId;
use uuid::Uuid;

/// Three events that were sent, stored and delivered as they should be.
fn good() -> (History, [EventId; 3]) {
    let ids = [1, 2, 3].map(|number| EventId::from(Uuid::from_u128(number)));
    let pairs: Vec<_> = ids.iter().map(|&id| (id, id.to_string().into_bytes())).collect();
    let history = History {
        accepted: pairs.clone(),
        stored: pairs.clone(),
        deliveries: ids.iter().map(|&id| (id, "delivered".to_owned())).collect(),
        received: pairs
            .into_iter()
            .map(|(id, data)| Receipt {
                id,
                data,
                taken: true,
                arrived_by_then: 0,
            })
            .collect(),
        ..History::default()
    };
    (history, ids)
}

fn good_verdict() -> Verdict {
    Verdict {
        accepted: 3,
        stored: 3,
        delivered: 3,
        ..Verdict::default()
    }
}

fn verdict_after(spoil: impl FnOnce(&mut History)) -> Verdict {
    let (mut history, _) = good();
    spoil(&mut history);
    history.judge()
}

#[test]
fn a_run_without_faults_is_judged_so() {
    assert_eq!(good().0.judge(), good_verdict());
    assert!(good_verdict().is_flawless());
}

#[test]
fn a_lost_event_is_found_wherever_it_was_lost() {
    let second = BTreeSet::from([good().1[1]]);
    let spoiled = [
        verdict_after(|history| _ = history.stored.remove(1)),
        verdict_after(|history| _ = history.deliveries.remove(1)),
        verdict_after(|history| _ = history.received.remove(1)),
        verdict_after(|history| history.received[1].taken = false),
    ];
    for verdict in spoiled {
        assert_eq!(verdict.lost, second, "{verdict:?}");
        assert!(!verdict.is_flawless());
    }
}

#[test]
fn an_altered_payload_is_found_in_the_table_and_at_the_receiver() {
    let second = BTreeSet::from([good().1[1]]);
    assert_eq!(
        verdict_after(|history| history.stored[1].1.push(b' ')).altered,
        second
    );
    assert_eq!(
        verdict_after(|history| history.received[1].data.push(b' ')).altered,
        second
    );
    let two_under_one_id = verdict_after(|history| history.accepted[2].0 = history.accepted[1].0);
    assert!(two_under_one_id.altered.is_superset(&second));
}

#[test]
fn a_repeat_is_found_in_the_table_and_at_the_receiver() {
    let second = BTreeSet::from([good().1[1]]);
    let stored_twice = verdict_after(|history| history.stored.push(history.stored[1].clone()));
    assert_eq!(stored_twice.duplicated, second);
    let two_deliveries = verdict_after(|history| history.deliveries.push(history.deliveries[1].clone()));
    assert_eq!(two_deliveries.duplicated, second);
    let taken_twice = verdict_after(|history| history.received.push(history.received[1].clone()));
    assert_eq!(taken_twice.duplicated, second);
}

#[test]
fn an_attempt_that_failed_before_is_no_repeat() {
    let verdict = verdict_after(|history| {
        let failed = Receipt {
            taken: false,
            ..history.received[1].clone()
        };
        history.received.insert(1, failed);
    });
    assert_eq!(verdict, good_verdict());
}

#[test]
fn what_is_not_delivered_yet_or_any_more_is_counted_and_not_lost() {
    let verdict = verdict_after(|history| {
        history.deliveries[0].1 = "pending".to_owned();
        history.deliveries[1].1 = "dead".to_owned();
        history.received.drain(..2);
    });
    let expected = Verdict {
        delivered: 1,
        pending: 1,
        dead: 1,
        ..good_verdict()
    };
    assert_eq!(verdict, expected);
}

#[test]
fn a_stored_event_whose_producer_got_no_answer_is_counted() {
    let verdict = verdict_after(|history| _ = history.accepted.remove(2));
    let expected = Verdict {
        accepted: 2,
        stored: 2,
        delivered: 2,
        unanswered: 1,
        ..Verdict::default()
    };
    assert_eq!(verdict, expected);
}

#[test]
fn the_payload_of_an_event_whose_producer_got_no_answer_is_one_that_got_none() {
    let third = BTreeSet::from([good().1[2]]);
    let unanswered = |history: &mut History| {
        let (_, data) = history.accepted.remove(2);
        history.unaccepted = Some(BTreeSet::from([data]));
    };
    assert!(verdict_after(unanswered).altered.is_empty());
    let stored = verdict_after(|history| {
        unanswered(history);
        history.stored[2].1.push(b' ');
    });
    assert_eq!(stored.altered, third);
    let received = verdict_after(|history| {
        unanswered(history);
        history.received[2].data.push(b' ');
    });
    assert_eq!(received.altered, third);
}

/// The three events have one ordering key. The second and the third were sent beside each other, when the first was accepted.
fn verdict_of_key(spoil: impl FnOnce(&mut History)) -> Verdict {
    let (mut history, ids) = good();
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    let times = [(0, 1), (2, 4), (3, 5)];
    let ordered = ids.into_iter().zip(times).map(|(id, (sent, answered))| Ordered {
        id,
        key: "k".to_owned(),
        sent: after(sent),
        answered: after(answered),
    });
    history.ordered = ordered.collect();
    spoil(&mut history);
    history.judge()
}

#[test]
fn an_event_that_arrives_before_an_earlier_one_of_its_key_was_taken_is_found() {
    let [_, second, third] = good().1;
    assert_eq!(verdict_of_key(|_| {}), good_verdict());
    let swapped = verdict_of_key(|history| history.received.swap(0, 1));
    assert_eq!(swapped.misordered, BTreeSet::from([second]));
    assert!(!swapped.is_flawless());
    let taken_last = verdict_of_key(|history| {
        let taken = history.received[0].clone();
        history.received[0].taken = false;
        history.received.push(taken);
    });
    assert_eq!(taken_last.misordered, BTreeSet::from([second, third]));
    let answered_late = verdict_of_key(|history| history.received[0].arrived_by_then = 2);
    assert_eq!(answered_late.misordered, BTreeSet::from([second]));
    let of_other_key = verdict_of_key(|history| {
        history.ordered[0].key.clear();
        history.received.swap(0, 1);
    });
    assert_eq!(of_other_key, good_verdict());
}

#[test]
fn neither_a_repeat_nor_an_event_that_was_sent_beside_another_is_out_of_order() {
    let repeated = verdict_of_key(|history| history.received.push(history.received[0].clone()));
    assert!(repeated.misordered.is_empty());
    let beside = verdict_of_key(|history| history.received.swap(1, 2));
    assert_eq!(beside, good_verdict());
}
