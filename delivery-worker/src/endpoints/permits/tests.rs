use futures_util::FutureExt as _;
use shared::domain::clock::UnixMicros;

use super::gate::{MOMENT, SILENCE};
use super::*;

#[test]
fn both_limits_hold_and_a_drop_frees_both() {
    let permits = Permits::new(4);
    let (one, two) = (Arc::new(Gate::new(2)), Arc::new(Gate::new(2)));
    let first = permits.try_acquire(&one).unwrap();
    let _second = permits.try_acquire(&one).unwrap();
    assert!(permits.try_acquire(&one).is_none(), "the endpoint's limit");
    let _third = permits.try_acquire(&two).unwrap();
    assert!(permits.try_acquire(&two).is_none(), "the worker's limit");
    drop(first);
    assert!(permits.try_acquire(&two).is_some());
}

#[tokio::test]
async fn no_endpoint_takes_more_than_it_leaves_free_and_who_finds_none_is_woken() {
    let permits = Permits::new(9);
    let take = || -> Vec<_> {
        let gate = Arc::new(Gate::new(100));
        std::iter::from_fn(|| permits.try_acquire(&gate)).collect()
    };
    let mut taken = vec![take(), take(), take(), take()];
    let counts: Vec<_> = taken.iter().map(Vec::len).collect();
    assert_eq!(counts, [5, 2, 1, 1]);
    assert!(take().is_empty());
    taken.pop();
    permits.freed().await;
    assert_eq!(take().len(), 1);
}

#[test]
fn a_delivery_that_was_taken_leaves_its_endpoint_but_as_many_again_wait_to_be_recorded() {
    let permits = Permits::new(10);
    let gate = Arc::new(Gate::new(1));
    let mut first = permits.try_acquire(&gate).unwrap();
    assert!(permits.try_acquire(&gate).is_none(), "one is in flight");
    first.leave_endpoint();
    let mut second = permits.try_acquire(&gate).unwrap();
    second.leave_endpoint();
    assert!(permits.try_acquire(&gate).is_none(), "two are not recorded");
    assert_eq!(
        (gate.available(), permits.available(), permits.in_use()),
        (0, 8, 2)
    );
    drop(first);
    assert!(permits.try_acquire(&gate).is_some());
}

#[test]
fn new_events_queue_up_behind_a_backlog() {
    let permits = Permits::new(3);
    let gate = Arc::new(Gate::new(2));
    gate.set_backlogged(true);
    assert!(permits.try_acquire_for_new(&gate).is_none());
    gate.set_backlogged(false);
    assert!(permits.try_acquire_for_new(&gate).is_some());
}

#[test]
fn one_that_may_ask_again_queues_nobody_up_behind_it() {
    let permits = Permits::new(10);
    let gate = Arc::new(Gate::new(2));
    let waiter = Waiter::default();
    let mut held = vec![
        permits.try_acquire_early(&gate, &waiter).unwrap(),
        permits.try_acquire_early(&gate, &waiter).unwrap(),
    ];
    assert!(permits.try_acquire_early(&gate, &waiter).is_none());
    assert!(
        gate.is_full(permits.available()),
        "the receiver has all it may have"
    );
    held[0].leave_endpoint();
    assert!(!gate.is_short() && permits.free_for(&gate, &waiter) == 1);
    held.push(permits.try_acquire_early(&gate, &waiter).unwrap());
    assert!(gate.is_short());
    held.iter_mut().for_each(Permit::leave_endpoint);
    held.push(permits.try_acquire_early(&gate, &waiter).unwrap());
    held[3].leave_endpoint();
    assert!(!gate.is_full(permits.available()) && permits.try_acquire_early(&gate, &waiter).is_none());
    held.truncate(2);
    assert!(!gate.is_short());
    assert!(permits.try_acquire_for_new(&gate).is_some(), "nothing queues");
    gate.set_backlogged(true);
    assert_eq!((permits.free_for(&gate, &waiter), gate.available()), (0, 2));
}

#[tokio::test]
async fn those_that_wait_get_permits_in_the_order_in_which_they_came() {
    let permits = Permits::new(10);
    let gate = Arc::new(Gate::new(1));
    let [first, second, newcomer] = std::array::from_fn(|_| Waiter::default());
    let permit = permits.try_acquire_early(&gate, &first).unwrap();
    gate.enter_queue(&first);
    gate.enter_queue(&second);
    drop(permit);
    first.woken().await;
    assert!(
        permits.try_acquire_early(&gate, &second).is_none(),
        "it is the second"
    );
    assert!(
        permits.try_acquire_early(&gate, &newcomer).is_none(),
        "it is the third"
    );
    let mut permit = permits.try_acquire_early(&gate, &first).unwrap();
    gate.leave_queue(&first);
    assert!(
        permits.try_acquire_early(&gate, &second).is_none(),
        "one is in flight"
    );
    permit.leave_endpoint();
    second.woken().await;
    assert!(permits.try_acquire_early(&gate, &second).is_some());
    gate.leave_queue(&second);
    assert!(
        permits.try_acquire_early(&gate, &newcomer).is_some(),
        "nobody waits"
    );
}

#[tokio::test]
async fn those_that_wait_are_woken_when_nothing_waits_in_the_table_any_more() {
    let gate = Gate::new(1);
    let waiter = Waiter::default();
    gate.set_backlogged(true);
    gate.enter_queue(&waiter);
    gate.set_backlogged(false);
    waiter.woken().await;
}

#[tokio::test]
async fn who_leaves_the_queue_wakes_the_next_one() {
    let gate = Gate::new(1);
    let [first, second] = std::array::from_fn(|_| Waiter::default());
    gate.enter_queue(&first);
    gate.enter_queue(&second);
    gate.leave_queue(&first);
    second.woken().await;
}

#[test]
fn who_enters_the_queue_after_a_permit_was_freed_is_woken() {
    let permits = Permits::new(10);
    let gate = Arc::new(Gate::new(1));
    let waiter = Waiter::default();
    let permit = permits.try_acquire(&gate).unwrap();
    assert!(permits.try_acquire_early(&gate, &waiter).is_none());
    drop(permit);
    gate.enter_queue(&waiter);
    assert!(waiter.woken().now_or_never().is_some());
}

#[test]
fn a_receiver_is_full_when_it_has_as_many_deliveries_as_the_worker_has_left() {
    let permits = Permits::new(4);
    let gate = Arc::new(Gate::new(8));
    let mut held: Vec<_> = std::iter::from_fn(|| permits.try_acquire(&gate)).collect();
    assert_eq!((held.len(), gate.available()), (2, 6));
    assert!(gate.is_full(permits.available()));
    // It waits to be recorded.
    held[0].leave_endpoint();
    assert!(!gate.is_full(permits.available()));
    assert!(!Gate::new(8).is_full(0), "it has none");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_quick_that_would_take_2_000_deliveries_a_second_and_gives_answers() {
    let gate = Gate::new(64);
    assert!(!gate.is_quick(), "nothing is known of it");
    let answer = |millis: u64, times: usize| {
        (0..times).for_each(|_| gate.note_answer(Duration::from_millis(millis)));
        gate.is_quick()
    };
    assert!(answer(30, 200));
    assert!(!answer(40, 200));
    assert!(!answer(0, 1), "one does not count for all");
    assert!(answer(0, 200));
    tokio::time::advance(SILENCE).await;
    assert!(!gate.is_quick(), "it may hang");
    assert!(answer(0, 1));
    assert!(!answer(u64::MAX, 1), "one that hangs counts for some");
}

#[tokio::test(start_paused = true)]
async fn new_events_wait_for_a_backlog_of_a_moment_and_not_for_an_older_one() {
    let gate = Gate::new(1);
    assert!(gate.takes_new() && gate.takes_new_soon());
    for _ in 0..2 {
        gate.overflow();
        assert!(!gate.takes_new() && gate.takes_new_soon());
        tokio::time::advance(MOMENT / 2).await;
        // Others come into the table.
        gate.overflow();
        assert!(gate.takes_new_soon());
        tokio::time::advance(MOMENT / 2).await;
        assert!(!gate.takes_new_soon());
        gate.set_backlogged(false);
        assert!(gate.takes_new_soon());
    }
    gate.set_backlogged(true);
    gate.overflow();
    assert!(!gate.takes_new_soon(), "intake has added to what was there");
    gate.set_backlogged(false);
    gate.hold();
    assert!(!gate.takes_new_soon());
}

#[test]
fn nothing_starts_at_once_while_the_circuit_is_open() {
    let permits = Permits::new(3);
    let gate = Arc::new(Gate::new(2));
    gate.hold();
    assert!(permits.try_acquire_for_new(&gate).is_none());
    assert!(permits.try_acquire(&gate).is_some(), "a probe out of the table");
}

#[test]
fn what_was_known_before_a_receiver_asked_to_wait_does_not_let_new_events_start() {
    let gate = Gate::new(1);
    let before = UnixMicros::new(UnixMicros::now().get() - 1);
    gate.hold();
    // Such as the success of a delivery that was sent before.
    gate.release(before);
    assert!(gate.is_held() && !gate.takes_new());
    gate.release(UnixMicros::now());
    assert!(!gate.is_held() && gate.takes_new());
}

#[tokio::test]
async fn a_delivery_that_comes_into_the_table_after_it_was_searched_wakes_the_claimer() {
    let permits = Permits::new(1);
    let gate = Arc::new(Gate::new(1));
    let permit = permits.try_acquire(&gate).unwrap();
    assert!(permits.try_acquire_for_new(&gate).is_none());
    drop(permit);
    permits.freed().await;
    gate.set_backlogged(false);
    let id = EndpointId::from(uuid::Uuid::nil());
    permits.note_waiting(id, &gate);
    permits.freed().await;
    assert!(permits.take_notes().contains_key(&id));
    assert!(permits.try_acquire_for_new(&gate).is_none(), "it goes first");
}

#[tokio::test]
async fn a_permit_freed_by_a_panic_wakes_the_claimer_of_a_backlogged_endpoint() {
    let permits = Permits::new(1);
    let gate = Arc::new(Gate::new(1));
    let permit = permits.try_acquire(&gate).unwrap();
    assert!(permits.try_acquire_for_new(&gate).is_none());
    let panicked = std::thread::spawn(move || {
        let _permit = permit;
        panic!("out of luck");
    });
    assert!(panicked.join().is_err());
    permits.freed().await;
    assert_eq!(permits.available(), 1);
}
