//! Events that may begin [early](crate::intake::early) and found no permit. They wait a moment for one, also when older
//! deliveries have come into the table just now. Otherwise a short standstill of Postgres or of a receiver would send all later
//! events through the table. There each costs three times as much, and at a high rate the worker would never catch up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoints::permits::{Gate, Permits, Waiter};
use crate::intake::early::lack::Lack;
use crate::intake::frame::Located;

/// How long events wait for a receiver that already has as many deliveries as it may have, or for more permits than the worker has
/// left.
const FOR_RECEIVER: Duration = Duration::from_millis(100);

/// How long they wait when the receiver would take them now or very soon, and only this worker or the database keeps them back:
/// results are not stored, other events are first, or older deliveries are still in the table. In the table they would only add
/// to the work. Meanwhile other frames of the stream may have to wait too.
const FOR_WORKER: Duration = Duration::from_secs(1);

/// How often to look whether events that have begun can be stored before the others, and how often while some wait.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_IN_HURRY: Duration = Duration::from_millis(3);

/// How long permits gather after the first one has woken those that wait: permits come free together.
const GATHERING: Duration = Duration::from_millis(1);

/// The events of one batch that wait, the oldest first. They get permits before those of later batches.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    events: Vec<(Located<'a>, Lack)>,
    /// When the first ones were added.
    since: Option<Instant>,
    waiter: Waiter,
    /// Until when permits gather, once the waiter was woken.
    gather_until: Option<Instant>,
    /// The gates in whose queues the waiter is, by their addresses: an endpoint that is changed may get another one.
    queues: HashMap<usize, Arc<Gate>>,
}

impl<'a> Waiting<'a> {
    /// No event waits yet. All that are added count as waiting since the first ones were.
    pub(super) fn new() -> Self {
        Self {
            events: Vec::new(),
            since: None,
            waiter: Waiter::default(),
            gather_until: None,
            queues: HashMap::new(),
        }
    }

    /// Whether no event waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What is woken when events may find permits.
    pub(super) fn waiter(&self) -> &Waiter {
        &self.waiter
    }

    /// Returns when events may find permits. May be dropped while it waits: the next one goes on where it was.
    pub(super) async fn woken(&mut self) {
        let until = if let Some(until) = self.gather_until {
            until
        } else {
            self.waiter.woken().await;
            *self.gather_until.insert(Instant::now() + GATHERING)
        };
        tokio::time::sleep_until(until).await;
        self.gather_until = None;
    }

    /// How long until the next look whether events that have begun can be stored.
    pub(super) fn look_after(&self) -> Duration {
        if self.is_empty() { LOOK } else { LOOK_IN_HURRY }
    }

    /// Takes out the events that would find permits now. One that needs many stays until the worker has as many left: if it tried
    /// without, it would keep those from the others that it finds, and begin nothing.
    pub(super) fn take_next(&mut self, permits: &Permits) -> Vec<Located<'a>> {
        let (mut free, waiter) = (HashMap::new(), self.waiter.clone());
        let mut left = permits.available();
        self.take(|lack| {
            let free = free
                .entry(address(&lack.endpoint.gate))
                .or_insert_with(|| permits.free_for(&lack.endpoint.gate, &waiter));
            let finds_them = *free > 0 && lack.permits <= left;
            if finds_them {
                *free -= 1;
                left -= lack.permits;
            }
            finds_them
        })
    }

    /// Adds events that found no permits, before the newer ones.
    pub(super) fn add(&mut self, mut events: Vec<(Located<'a>, Lack)>) {
        if !events.is_empty() {
            self.since.get_or_insert_with(Instant::now);
        }
        events.append(&mut self.events);
        self.events = events;
        self.line_up();
    }

    /// Takes out events that wait no longer: they are stored, and their deliveries are left due in the table.
    pub(super) fn take_impatient(&mut self, permits: &Permits) -> Vec<Located<'a>> {
        let waited = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        let left = permits.available();
        let impatient =
            self.take(|lack| !lack.endpoint.gate.takes_new_soon() || waited >= patience(lack, left));
        self.line_up();
        impatient
    }

    /// Takes out the events that `is_taken` picks by what they lack.
    fn take(&mut self, mut is_taken: impl FnMut(&Lack) -> bool) -> Vec<Located<'a>> {
        self.events
            .extract_if(.., |(_, lack)| is_taken(lack))
            .map(|(located, _)| located)
            .collect()
    }

    /// Enters the queues of the gates at which events wait, and leaves the others.
    fn line_up(&mut self) {
        let Self {
            events,
            waiter,
            queues,
            ..
        } = self;
        let mut left = std::mem::take(queues);
        for (_, lack) in events {
            let gate = &lack.endpoint.gate;
            let Entry::Vacant(queue) = queues.entry(address(gate)) else {
                continue;
            };
            if left.remove(queue.key()).is_none() {
                gate.enter_queue(waiter);
            }
            queue.insert(gate.clone());
        }
        for gate in left.into_values() {
            gate.leave_queue(waiter);
        }
    }
}

fn address(gate: &Arc<Gate>) -> usize {
    Arc::as_ptr(gate).addr()
}

/// How long an event waits when the worker has this many permits `left`.
fn patience(Lack { endpoint, permits }: &Lack, left: usize) -> Duration {
    // It needs many, and others may take them one by one.
    let needs_more = *permits > left.max(1);
    if needs_more || endpoint.gate.is_full(left) && !endpoint.gate.is_quick() {
        FOR_RECEIVER
    } else {
        FOR_WORKER
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for gate in self.queues.values() {
            gate.leave_queue(&self.waiter);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use shared::domain::event::Event;
    use tokio::time::timeout;

    use super::*;
    use crate::endpoints::endpoint::Endpoint;
    use crate::endpoints::endpoint::tests::{key, row};
    use crate::endpoints::retry::tests::default_policy;
    use crate::intake::frame::Frame;

    /// What an event lacks that needs so many permits, for an endpoint of its own.
    fn lack(permits: usize) -> Lack {
        let endpoint = row().endpoint(None, &key(), &default_policy()).unwrap();
        Lack {
            endpoint: Arc::new(endpoint),
            permits,
        }
    }

    fn event<'a>(frame: &'a Frame<'_>, position: usize) -> Located<'a> {
        Located {
            event: Event::sample(),
            frame,
            position,
        }
    }

    fn positions(events: &[Located<'_>]) -> Vec<usize> {
        events.iter().map(|located| located.position).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_needs_more_permits_than_are_left_keeps_them_from_no_other() {
        let (permits, frame) = (Permits::new(4), Frame::sample());
        let mut waiting = Waiting::new();
        let lacking = [5, 1, 3].into_iter().enumerate();
        waiting.add(
            lacking
                .map(|(position, permits)| (event(&frame, position), lack(permits)))
                .collect(),
        );
        assert_eq!(positions(&waiting.take_next(&permits)), [1, 2]);
        assert!(waiting.take_next(&permits).is_empty());
        assert!(waiting.take_impatient(&permits).is_empty());
        tokio::time::advance(FOR_RECEIVER).await;
        assert_eq!(positions(&waiting.take_impatient(&permits)), [0]);
        assert!(waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_woken_and_is_interrupted_while_permits_gather_goes_on_waiting_for_them() {
        let (gate, mut waiting) = (Gate::new(1), Waiting::new());
        gate.enter_queue(waiting.waiter());
        gate.set_backlogged(false);
        for _ in 0..2 {
            assert!(waiting.woken().now_or_never().is_none(), "permits gather");
        }
        let woken = timeout(GATHERING * 2, waiting.woken()).await;
        woken.expect("it was woken");
        assert!(timeout(FOR_WORKER, waiting.woken()).await.is_err(), "only once");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_needs_one_permit_waits_longer_for_the_worker() {
        let (permits, frame) = (Permits::new(1), Frame::sample());
        let mut waiting = Waiting::new();
        let other = lack(1);
        let _permit = permits.try_acquire(&other.endpoint.gate).unwrap();
        // Postgres takes this long to say which endpoints are well.
        tokio::time::advance(FOR_WORKER).await;
        waiting.add(vec![(event(&frame, 0), lack(1))]);
        tokio::time::advance(FOR_RECEIVER).await;
        assert!(waiting.take_next(&permits).is_empty());
        assert!(waiting.take_impatient(&permits).is_empty());
        tokio::time::advance(FOR_WORKER).await;
        assert_eq!(positions(&waiting.take_impatient(&permits)), [0]);
    }

    #[test]
    fn an_event_whose_endpoint_has_another_gate_by_now_waits_at_that_one() {
        let (permits, frame, mut row) = (Permits::new(4), Frame::sample(), row());
        let mut endpoint = |known: Option<&Endpoint>, max_in_flight| {
            row.max_in_flight = max_in_flight;
            let endpoint = row.endpoint(known, &key(), &default_policy());
            Arc::new(endpoint.unwrap())
        };
        let before = endpoint(None, 1);
        let after = endpoint(Some(&*before), 2);
        let mut waiting = Waiting::new();
        let mut add = |endpoint: &Arc<Endpoint>| {
            let lack = Lack {
                endpoint: endpoint.clone(),
                permits: 1,
            };
            waiting.add(vec![(event(&frame, 0), lack)]);
            let other = Waiter::default();
            [&before, &after].map(|endpoint| permits.free_for(&endpoint.gate, &other))
        };
        assert_eq!(add(&before), [0, 2]);
        assert_eq!(add(&after), [0, 0]);
        assert_eq!(waiting.take_next(&permits).len(), 2);
        waiting.line_up();
        let other = Waiter::default();
        assert_eq!(permits.free_for(&before.gate, &other), 1);
        assert_eq!(permits.free_for(&after.gate, &other), 2);
    }
}
