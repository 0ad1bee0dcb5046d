//! The course of a batch with events that may begin [early](crate::intake::early). At the same time, some events may wait for
//! permits, others for answers, and others be stored.

use std::collections::HashMap;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::endpoints::permits::Waiter;
use crate::intake::early::begin::Sorted;
use crate::intake::early::waiting::Waiting;
use crate::intake::early::{Early, Looked};
use crate::intake::frame::Located;
use crate::intake::write::{Manner, Writer};

/// Statements of one batch that may run at once.
const MAX_STEPS: usize = 3;

type Step<'a> = Result<Stepped<'a>, sqlx::Error>;

/// What a statement that has ended has done.
enum Stepped<'a> {
    /// It has stored events.
    Stored,
    /// It has begun those events that can begin.
    Sorted(Sorted<'a>),
}

/// The statements of a batch that run.
struct Steps<'b, 'a> {
    writer: &'b Writer,
    early: &'b Early,
    manner: Manner<'b>,
    waiter: Waiter,
    running: FuturesUnordered<BoxFuture<'b, Step<'a>>>,
    /// Whether one of them sorts events. Only one at a time does.
    is_sorting: bool,
}

impl<'a: 'b, 'b> Steps<'b, 'a> {
    /// Sorts events, if there are any.
    fn sort(&mut self, events: Vec<Located<'a>>) {
        if events.is_empty() {
            return;
        }
        self.is_sorting = true;
        let (writer, early, waiter) = (self.writer, self.early, self.waiter.clone());
        self.running.push(Box::pin(async move {
            writer.begin(events, early, &waiter).await.map(Stepped::Sorted)
        }));
    }

    /// Stores events, if there are any.
    fn store(&mut self, events: Vec<Located<'a>>) {
        if events.is_empty() {
            return;
        }
        let (writer, manner) = (self.writer, self.manner);
        self.running.push(Box::pin(async move {
            writer.store(&events, manner).await.map(|()| Stepped::Stored)
        }));
    }

    /// The next one that ends; `None` when none runs. May be dropped while it waits.
    async fn next(&mut self) -> Option<Step<'a>> {
        let step = self.running.next().await;
        if matches!(step, Some(Ok(Stepped::Sorted(_)))) {
            self.is_sorting = false;
        }
        step
    }

    /// Lets all end that run. Postgres would go on with those that are dropped, and nobody would start the deliveries that they
    /// lease.
    async fn end(mut self) {
        while self.running.next().await.is_some() {}
    }
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
        let (mut waiting, mut begun) = (Waiting::new(), Vec::new());
        let mut steps = Steps {
            writer: self,
            early,
            manner,
            waiter: waiting.waiter().clone(),
            running: FuturesUnordered::new(),
            is_sorting: false,
        };
        if early.begin_once() {
            steps.sort(events);
        } else {
            // The batch is tried again.
            let sorted = Sorted::of(events, early, HashMap::new());
            begun = sorted.begun;
            steps.store(sorted.others);
        }
        let mut look = Instant::now() + waiting.look_after();
        loop {
            let waits_only_for_answers = steps.running.is_empty() && waiting.is_empty();
            let _waits = waits_only_for_answers.then(|| early.patient.wait());
            let record = |report| self.dispatcher.record(report);
            let looks = steps.running.len() < MAX_STEPS && !(begun.is_empty() && waiting.is_empty());
            tokio::select! {
                Some(step) = steps.next() => match step {
                    Ok(Stepped::Stored) => {}
                    Ok(Stepped::Sorted(mut sorted)) => {
                        begun.append(&mut sorted.begun);
                        waiting.add(sorted.waiting);
                        steps.store(sorted.others);
                    }
                    Err(error) => {
                        drop(waiting);
                        steps.end().await;
                        return Err(error);
                    }
                },
                looked = early.look(&begun, &mut waiting, look, record), if looks => {
                    if looked == Looked::Due {
                        let (over, running) = early.split_over(begun, !waiting.is_empty());
                        begun = running;
                        steps.store(over);
                        steps.store(waiting.take_impatient(&self.planner.permits));
                        look = Instant::now() + waiting.look_after();
                    }
                    if !steps.is_sorting {
                        steps.sort(waiting.take_next(&self.planner.permits));
                    }
                }
                else => return Ok(()),
            }
        }
    }
}
