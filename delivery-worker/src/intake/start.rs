//! Starting the deliveries of events that are stored.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::EventId;

use crate::intake::frame::Located;
use crate::intake::plan::{Plan, Planned};
use crate::intake::write::Writer;
use crate::send::content::body::Outgoing;
use crate::send::job::Job;

impl Writer {
    /// Starts the leased deliveries of the events that were `new`, unless their endpoints are held by now. The permits of the
    /// others are freed.
    pub(super) fn start(&self, events: &[Located<'_>], plan: Plan<'_>, new: &HashSet<EventId>) {
        self.note_waiting(&plan);
        let mut outgoing = HashMap::new();
        let mut undecided = 0;
        for Planned { delivery, start } in plan.deliveries {
            let event = &events[delivery.event].event;
            if !new.contains(&event.id) {
                continue;
            }
            undecided += u64::from(delivery.is_undecided);
            let Some(start) = start else {
                continue;
            };
            let outgoing = outgoing
                .entry(delivery.event)
                .or_insert_with(|| Arc::new(Outgoing::from(event)));
            let job = Job::first(outgoing.clone(), start.endpoint, start.lease);
            if job.endpoint.gate.is_held() {
                self.dispatcher.put_off(job, start.permit);
            } else {
                self.dispatcher.start(job, start.permit);
            }
        }
        if undecided > 0 {
            metrics::counter!("penstock_filters_undecided_total").increment(undecided);
        }
    }

    /// Notes which endpoints have deliveries that were written and do not start at once.
    fn note_waiting(&self, plan: &Plan<'_>) {
        let permits = &self.planner.permits;
        for endpoint in plan.parked.values() {
            permits.note_waiting(endpoint.id, &endpoint.gate);
        }
        for id in &plan.for_claimer {
            permits.note_due(*id, Duration::ZERO);
        }
        if !plan.for_claimer.is_empty() {
            permits.wake_claimer();
        }
    }
}
