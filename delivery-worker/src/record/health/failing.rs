//! Which endpoints fail, as a group of results tells.

use std::collections::HashMap;
use std::sync::Arc;

use shared::domain::delivery::Outcome;
use shared::domain::id::EndpointId;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::retry::Next;
use crate::send::report::Report;

/// What a group of results tells of an endpoint that fails.
pub(super) struct Failed<'a> {
    /// The endpoint as it was changed last, of those that have failed: one that was changed since is not disabled.
    pub endpoint: &'a Arc<Endpoint>,
    pub count: i32,
    /// The last outcome.
    pub outcome: Outcome,
}

/// The endpoints that have failed since their last success in this group, without those that are gone.
pub(super) fn failing(group: &[Report]) -> HashMap<EndpointId, Failed<'_>> {
    let mut failing = HashMap::new();
    let counts = |report: &&Report| report.was_tried() && report.attempt.is_receivers();
    for report in group.iter().filter(counts) {
        let (endpoint, outcome) = (&report.job.endpoint, report.attempt.outcome);
        if report.next == Next::Delivered {
            failing.remove(&endpoint.id);
            continue;
        }
        let failed = failing.entry(endpoint.id).or_insert(Failed {
            endpoint,
            count: 0,
            outcome,
        });
        failed.count += 1;
        failed.outcome = outcome;
        if endpoint.version > failed.endpoint.version {
            failed.endpoint = endpoint;
        }
    }
    for report in group.iter().filter(|report| report.attempt.is_gone()) {
        failing.remove(&report.job.endpoint.id);
    }
    failing
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shared::domain::event::Event;
    use shared::domain::id::LeaseToken;

    use super::*;
    use crate::endpoints::endpoint::tests::{key, row};
    use crate::endpoints::permits::Permits;
    use crate::endpoints::retry::tests::default_policy;
    use crate::send::attempt::Attempt;
    use crate::send::content::body::Outgoing;
    use crate::send::job::Job;

    /// An attempt that timed out.
    fn failure(endpoint: &Arc<Endpoint>) -> Report {
        let event = Arc::new(Outgoing::from(&Event::sample()));
        Report {
            job: Job::first(event, endpoint.clone(), LeaseToken::generate()),
            attempt: Attempt::not_made(),
            next: Next::RetryIn(Duration::from_secs(1)),
            permit: Permits::new(10).try_acquire(&endpoint.gate).unwrap(),
            is_stored: false,
        }
    }

    #[test]
    fn of_an_endpoint_that_was_changed_meanwhile_the_last_change_counts_whatever_came_first() {
        let mut row = row();
        let mut of_version = |version| {
            row.version = version;
            Arc::new(row.endpoint(None, &key(), &default_policy()).unwrap())
        };
        let (before, after) = (of_version(1), of_version(2));
        for order in [[&before, &after], [&after, &before]] {
            let group = order.map(failure);
            let failing = failing(&group);
            let failed = &failing[&before.id];
            assert_eq!((failed.endpoint.version, failed.count), (2, 2));
        }
    }
}
