//! The course of a batch with events that may begin [early](crate::intake::early). At the same time, some events may wait for
//! permits, others for answers, and others be stored.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::intake::early::begin::Sorted;
use crate::intake::early::waiting::Waiting;
use crate::intake::early::{Early, Looked};
use crate::intake::frame::Located;
use crate::intake::write::{Manner, Writer};

/// Statements of one batch that may run at once.
const MAX_STEPS: usize = 3;

/// A statement that has ended.
enum Step<'a> {
    /// It has stored events.
    Stored,
    /// It has begun those events that can begin.
    Sorted(Sorted<'a>),
}

impl Writer {
    /// Takes events with different ids, of which some may begin early. These are stored when their receivers have answered, or
    /// have had time for it; the others at once.
    ///
    /// # Errors
    /// When Postgres does not answer, or refuses more than a value. Then part of them may be stored, and no more will begin.
    pub(crate) async fn take_early(
        &self,
        events: Vec<Located<'_>>,
        early: &Early,
        manner: Manner<'_>,
    ) -> Result<(), sqlx::Error> {
        let mut waiting = Waiting::new();
        let waiter = waiting.waiter().clone();
        let sort = |events| -> BoxFuture<'_, Result<Step<'_>, sqlx::Error>> {
            let waiter = &waiter;
            Box::pin(async move { self.begin(events, early, waiter).await.map(Step::Sorted) })
        };
        let store = |events: Vec<_>| -> BoxFuture<'_, Result<Step<'_>, sqlx::Error>> {
            Box::pin(async move { self.store(&events, manner).await.map(|()| Step::Stored) })
        };
        let (mut steps, mut begun) = (FuturesUnordered::new(), Vec::new());
        let mut is_sorting = early.begin_once();
        if is_sorting {
            steps.push(sort(events));
        } else {
            // The batch is tried again.
            let sorted = Sorted::of(events, early, HashMap::new());
            begun = sorted.begun;
            steps.push(store(sorted.others));
        }
        let mut look = Instant::now() + waiting.look_after();
        loop {
            let waits_only_for_answers = steps.is_empty() && waiting.is_empty();
            let _waits = waits_only_for_answers.then(|| early.patient.wait());
            let record = |report| self.dispatcher.record(report);
            let looks = steps.len() < MAX_STEPS && !(begun.is_empty() && waiting.is_empty());
            tokio::select! {
                Some(step) = steps.next() => match step {
                    Ok(Step::Stored) => {}
                    Ok(Step::Sorted(mut sorted)) => {
                        is_sorting = false;
                        begun.append(&mut sorted.begun);
                        waiting.add(sorted.waiting);
                        steps.push(store(sorted.others));
                    }
                    Err(error) => {
                        drop(waiting);
                        // Postgres would go on with those that are dropped, and nobody would start the deliveries that they lease.
                        while steps.next().await.is_some() {}
                        return Err(error);
                    }
                },
                looked = early.look(&begun, &waiting, look, record), if looks => {
                    if looked == Looked::Due {
                        let (over, running) = early.split_over(begun, !waiting.is_empty());
                        begun = running;
                        let due = [over, waiting.take_impatient(&self.planner.permits)];
                        steps.extend(due.into_iter().filter(|events| !events.is_empty()).map(store));
                        look = Instant::now() + waiting.look_after();
                    }
                    if !is_sorting {
                        let next = waiting.take_next(&self.planner.permits);
                        is_sorting = !next.is_empty();
                        steps.extend(is_sorting.then(|| sort(next)));
                    }
                }
                else => return Ok(()),
            }
        }
    }
}
