//! Starting [early](crate::intake::early) attempts, and what follows from them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use shared::domain::event::Event;
use shared::domain::id::{EndpointId, EventId};

use crate::crash::{self, Point};
use crate::endpoints::permits::Waiter;
use crate::intake::early::Early;
use crate::intake::early::begun::{Begun, EarlyDelivery, Progress, Rest};
use crate::intake::early::lack::Lack;
use crate::intake::frame::Located;
use crate::intake::plan::{Beginning, Purpose, Start};
use crate::intake::write::Writer;
use crate::record::count_first_success;
use crate::send::content::body::Outgoing;
use crate::send::job::Job;
use crate::send::report::Report;
use crate::store::events::{self, Owners, Unwell};

/// Events, sorted by whether they begin early.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    /// They have begun.
    pub begun: Vec<Located<'a>>,
    /// They would begin if there were permits for them.
    pub waiting: Vec<(Located<'a>, Lack)>,
    /// They do not begin.
    pub others: Vec<Located<'a>>,
}

impl<'a> Sorted<'a> {
    /// Sorts events. All that have begun are in `early`; those in `lacking`, by their places, wait for permits.
    pub(super) fn of(events: Vec<Located<'a>>, early: &Early, mut lacking: HashMap<usize, Lack>) -> Self {
        let mut sorted = Self::default();
        for (place, located) in events.into_iter().enumerate() {
            if early.contains(located.event.id) {
                sorted.begun.push(located);
            } else if let Some(lack) = lacking.remove(&place) {
                sorted.waiting.push((located, lack));
            } else {
                sorted.others.push(located);
            }
        }
        sorted
    }
}

impl Writer {
    /// Starts the deliveries of those events that may begin early and find permits.
    ///
    /// # Errors
    /// When Postgres does not answer. Then none has begun.
    pub(super) async fn begin<'a>(
        &self,
        events: Vec<Located<'a>>,
        early: &Early,
        waiter: &Waiter,
    ) -> Result<Sorted<'a>, sqlx::Error> {
        let (candidates, others): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|located| early.may_begin(located));
        let lacking = self.begin_all(&candidates, early, waiter).await?;
        let mut sorted = Sorted::of(candidates, early, lacking);
        sorted.others.extend(others);
        Ok(sorted)
    }

    /// Begins the events whose deliveries can all start. The database is asked whether the endpoints are still those in memory,
    /// and which are held: one that was disabled gets nothing. Returns the places of those events that only lack permits. An event
    /// that needs more than the worker has is not among them.
    async fn begin_all(
        &self,
        candidates: &[Located<'_>],
        early: &Early,
        waiter: &Waiter,
    ) -> Result<HashMap<usize, Lack>, sqlx::Error> {
        let most = self.planner.permits.most();
        loop {
            let endpoints = self.directory.snapshot();
            let plan = self
                .planner
                .plan(&endpoints, candidates, Purpose::Beginning(waiter))
                .await;
            let (mut starts, mut lacking) = (Vec::new(), HashMap::new());
            for (event, beginning) in plan.into_beginnings() {
                match beginning {
                    Beginning::Ready(of_event) => starts.push((event, of_event)),
                    Beginning::Waits(lack) if lack.permits <= most => _ = lacking.insert(event, lack),
                    Beginning::Waits(_) | Beginning::Cannot => {}
                }
            }
            if starts.is_empty() {
                return Ok(lacking);
            }
            let Some(unwell) = self.unwell(endpoints.version, candidates, &starts).await? else {
                self.directory.refresh().await?;
                continue;
            };
            for (event, starts) in starts {
                let is_held = |start: &&Start| unwell.held.contains(&start.endpoint.id);
                if let Some(start) = starts.iter().find(is_held) {
                    start.endpoint.gate.hold();
                } else {
                    let event = &candidates[event].event;
                    self.begin_event(event, endpoints.version, starts, &unwell.failing, early);
                }
            }
            crash::reach(Point::Begun);
            return Ok(lacking);
        }
    }

    /// Starts all deliveries of an event. `failing` endpoints have failed since their last success.
    fn begin_event(
        &self,
        event: &Event<'_>,
        version: i64,
        starts: Vec<Start>,
        failing: &[EndpointId],
        early: &Early,
    ) {
        let outgoing = Arc::new(Outgoing::from(event));
        let mut deliveries = Vec::new();
        for Start {
            endpoint,
            permit,
            lease,
        } in starts
        {
            let job = Job::first(outgoing.clone(), endpoint.clone(), lease);
            deliveries.push(EarlyDelivery {
                fails: failing.contains(&endpoint.id),
                endpoint,
                lease,
                progress: Progress::Running,
            });
            self.dispatcher.begin(job, permit, early.reports().clone());
        }
        early.begun().insert(event.id, Begun::now(version, deliveries));
    }

    /// The endpoints of `starts` that are not well. `None` when the endpoints that these events may go to have changed since
    /// `version`.
    async fn unwell(
        &self,
        version: i64,
        events: &[Located<'_>],
        starts: &[(usize, Vec<Start>)],
    ) -> Result<Option<Unwell>, sqlx::Error> {
        let ids = starts.iter().flat_map(|(_, starts)| starts);
        let ids: HashSet<_> = ids.map(|start| start.endpoint.id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let looking = async {
            let mut connection = self.database.acquire().await?;
            let owners = Owners::of(events.iter().map(|located| &located.event));
            let unwell = events::unwell(&mut connection, version, &owners, &ids).await?;
            connection.keep();
            Ok(unwell)
        };
        self.database.pool().within(looking).await
    }

    /// Does what follows from early attempts, now that their events are stored. An event that is not new was stored by another
    /// worker, or by a statement whose answer was lost: the recorder tells by the lease.
    pub(crate) fn conclude(&self, events: &[Located<'_>], early: &Early, new: &HashSet<EventId>) {
        for Located { event, .. } in events {
            let Some(mut begun) = early.begun().remove(&event.id) else {
                continue;
            };
            for report in begun.take_late() {
                self.dispatcher.record(report);
            }
            let is_new = new.contains(&event.id);
            if !is_new {
                tracing::warn!(event_id = %event.id, "an event was stored before, and its deliveries have begun again");
            }
            for EarlyDelivery {
                endpoint, progress, ..
            } in begun.deliveries
            {
                match progress {
                    Progress::Ended(ended, Rest::Well { latency, .. }) if is_new => {
                        count_first_success(&endpoint, &ended, latency, &self.attempt_counts);
                    }
                    Progress::Ended(_, Rest::Unwell(report)) if is_new => {
                        let is_stored = true;
                        self.dispatcher.record(Report { is_stored, ..*report });
                    }
                    Progress::ForRecorder(report) => self.dispatcher.record(*report),
                    // A running attempt will report to the recorder.
                    Progress::Ended(..) | Progress::Running => {}
                }
            }
        }
    }

    /// Ends a batch: hands the late results of early attempts to the recorder.
    pub(crate) async fn end(&self, early: &Early) {
        for report in early.end().await {
            self.dispatcher.record(report);
        }
    }
}
