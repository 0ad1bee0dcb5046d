//! Starting [early](crate::intake::early) attempts, and what follows from them.

use std::collections::HashSet;
use std::sync::Arc;

use shared::domain::event::Event;
use shared::domain::id::{EndpointId, EventId};

use crate::crash::{self, Point};
use crate::intake::early::{Begun, Early, EarlyDelivery, Progress};
use crate::intake::frame::Located;
use crate::intake::plan::Start;
use crate::intake::write::Writer;
use crate::record::count_first_success;
use crate::send::body::Outgoing;
use crate::send::job::Job;
use crate::store::events::{self, Owners};

impl Writer {
    /// Starts the deliveries of events with different ids that may begin early, and returns those that have begun and the
    /// others.
    ///
    /// # Errors
    /// When Postgres does not answer. Then none has begun.
    pub(super) async fn begin<'a>(
        &self,
        events: Vec<Located<'a>>,
        early: &Early,
    ) -> Result<(Vec<Located<'a>>, Vec<Located<'a>>), sqlx::Error> {
        self.begin_all(&events, early).await?;
        let is_begun = |located: &Located<'_>| early.contains(located.event.id);
        Ok(events.into_iter().partition(is_begun))
    }

    /// An event begins if all its deliveries can start, to endpoints that do not fail. The database is asked whether the
    /// endpoints are still those in memory: one that was disabled gets nothing.
    async fn begin_all(&self, events: &[Located<'_>], early: &Early) -> Result<(), sqlx::Error> {
        let candidates = events.iter().filter(|located| early.may_begin(located));
        let candidates: Vec<_> = candidates.copied().collect();
        if candidates.is_empty() || !early.begin_once() {
            return Ok(());
        }
        loop {
            let endpoints = self.directory.snapshot();
            let plan = self.planner.plan(&endpoints, &candidates, None).await;
            let mut starts = plan.into_starts();
            // The database would say so.
            starts.retain(|(_, starts)| !starts.iter().any(|start| start.endpoint.gate.has_failed_lately()));
            if starts.is_empty() {
                return Ok(());
            }
            match self.failing(endpoints.version, &candidates, &starts).await? {
                Some(failing) => {
                    let version = endpoints.version;
                    for (event, starts) in starts {
                        let fails = |start: &&Start| failing.contains(&start.endpoint.id);
                        if let Some(start) = starts.iter().find(fails) {
                            start.endpoint.gate.note_failure();
                        } else {
                            self.begin_event(&candidates[event].event, version, starts, early);
                        }
                    }
                    crash::reach(Point::Begun);
                    return Ok(());
                }
                None => _ = self.directory.refresh().await?,
            }
        }
    }

    fn begin_event(&self, event: &Event<'_>, version: i64, starts: Vec<Start>, early: &Early) {
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
                endpoint,
                lease,
                progress: Progress::Running,
            });
            self.dispatcher.begin(job, permit, early.reports().clone());
        }
        early.begun().insert(event.id, Begun { version, deliveries });
    }

    /// The endpoints among these that fail; `None` when those that these events may go to have changed.
    async fn failing(
        &self,
        version: i64,
        events: &[Located<'_>],
        starts: &[(usize, Vec<Start>)],
    ) -> Result<Option<HashSet<EndpointId>>, sqlx::Error> {
        let ids = starts.iter().flat_map(|(_, starts)| starts);
        let ids: HashSet<_> = ids.map(|start| start.endpoint.id).collect();
        let ids: Vec<_> = ids.into_iter().collect();
        let looking = async {
            let mut connection = self.database.acquire().await?;
            let owners = Owners::of(events.iter().map(|located| &located.event));
            let failing = events::failing(&mut connection, version, &owners, &ids).await?;
            connection.keep();
            Ok(failing)
        };
        let failing = self.database.pool().within(looking).await?;
        Ok(failing.map(|failing| failing.into_iter().collect()))
    }

    /// What follows from early attempts, now that they are stored. An event that is not new was stored by another worker, or by
    /// a statement whose answer was lost; the recorder knows by the lease.
    pub(super) fn conclude(&self, events: &[Located<'_>], early: &Early, new: &HashSet<EventId>) {
        for Located { event, .. } in events {
            let Some(begun) = early.begun().remove(&event.id) else {
                continue;
            };
            let is_new = new.contains(&event.id);
            if !is_new {
                tracing::warn!(event_id = %event.id, "an event was stored before, and its deliveries have begun again");
            }
            for EarlyDelivery {
                endpoint, progress, ..
            } in begun.deliveries
            {
                match progress {
                    Progress::Delivered { success, latency, .. } if is_new => {
                        count_first_success(&endpoint, success.duration, latency, &self.attempt_counts);
                    }
                    Progress::ForRecorder(report) => self.dispatcher.record(*report),
                    // Of one that runs, the report goes to the recorder.
                    Progress::Delivered { .. } | Progress::Running => {}
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
