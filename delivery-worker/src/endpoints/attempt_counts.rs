//! What came of attempts, by endpoint, until it is written to `endpoint_hours`: counted in memory, so that an attempt costs a
//! look into a map. There is no more of it than two counts for each endpoint, however long it cannot be written.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::domain::durations::{STEPS, step};
use shared::domain::id::{EndpointId, OrgId};

use crate::endpoints::endpoint::Endpoint;

/// What came of attempts and is not written.
#[derive(Debug, Default)]
pub(crate) struct AttemptCounts {
    counted: Mutex<HashMap<EndpointId, Counted>>,
    /// Taken out of there to be written, each endpoint once.
    unwritten: Mutex<Vec<(EndpointId, Counted)>>,
}

/// What came of an endpoint's attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    pub org_id: OrgId,
    pub succeeded: i64,
    pub failed: i64,
    /// All of them, by how long they took.
    pub durations: [i32; STEPS],
}

impl Counted {
    fn none_of(org_id: OrgId) -> Self {
        Self {
            org_id,
            succeeded: 0,
            failed: 0,
            durations: [0; STEPS],
        }
    }

    fn add(&mut self, succeeded: bool, took: Duration) {
        self.succeeded += i64::from(succeeded);
        self.failed += i64::from(!succeeded);
        let duration = &mut self.durations[step(took)];
        *duration = duration.saturating_add(1);
    }
}

impl AttemptCounts {
    /// Counts an attempt.
    pub(crate) fn count(&self, endpoint: &Endpoint, succeeded: bool, took: Duration) {
        self.add(endpoint.id, endpoint.org_id, succeeded, took);
    }

    fn add(&self, id: EndpointId, org_id: OrgId, succeeded: bool, took: Duration) {
        let mut all = self.counted();
        let counted = all.entry(id).or_insert_with(|| Counted::none_of(org_id));
        counted.add(succeeded, took);
    }

    /// Whether all is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.unwritten().is_empty() && self.counted().is_empty()
    }

    /// What is to be written next: of `most` endpoints, each once. It stays until [`forget`](Self::forget).
    pub(crate) fn due(&self, most: usize) -> Vec<(EndpointId, Counted)> {
        let mut unwritten = self.unwritten();
        if unwritten.is_empty() {
            unwritten.extend(std::mem::take(&mut *self.counted()));
        }
        let rest = unwritten.len().saturating_sub(most);
        unwritten[rest..].to_vec()
    }

    /// Forgets what is written: as many as were due.
    pub(crate) fn forget(&self, written: usize) {
        let mut unwritten = self.unwritten();
        let rest = unwritten.len().saturating_sub(written);
        unwritten.truncate(rest);
        if rest == 0 {
            unwritten.shrink_to_fit();
        }
    }

    fn counted(&self) -> MutexGuard<'_, HashMap<EndpointId, Counted>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<(EndpointId, Counted)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOOK: Duration = Duration::from_millis(7);

    #[test]
    fn attempts_are_added_up_by_endpoint_and_stay_until_they_are_written() {
        let (counts, org_id) = (AttemptCounts::default(), OrgId::generate());
        let (one, other) = (EndpointId::generate(), EndpointId::generate());
        assert!(counts.is_empty() && counts.due(10).is_empty());
        for (id, succeeded) in [(one, true), (other, true), (one, false), (one, true)] {
            counts.add(id, org_id, succeeded, TOOK);
        }
        let of_one = |due: Vec<(EndpointId, Counted)>| due.into_iter().find(|(id, _)| *id == one);
        let (_, counted) = of_one(counts.due(10)).expect("it was counted");
        assert_eq!((counted.succeeded, counted.failed), (2, 1));
        assert_eq!(
            (
                counted.durations[step(TOOK)],
                counted.durations.iter().sum::<i32>()
            ),
            (3, 3)
        );

        // What comes while these are written is written after them.
        counts.add(one, org_id, false, TOOK);
        assert_eq!(of_one(counts.due(10)), Some((one, counted)));
        counts.forget(2);
        assert!(!counts.is_empty());
        let (_, later) = of_one(counts.due(10)).expect("it was counted");
        assert_eq!((later.succeeded, later.failed), (0, 1));
        counts.forget(1);
        assert!(counts.is_empty());
    }

    #[test]
    fn many_endpoints_are_written_in_parts_each_once() {
        let (counts, org_id) = (AttemptCounts::default(), OrgId::generate());
        for _ in 0..25 {
            counts.add(EndpointId::generate(), org_id, true, TOOK);
        }
        let mut seen = std::collections::HashSet::new();
        for part in [10, 10, 5] {
            let due = counts.due(10);
            assert_eq!(due.len(), part);
            counts.forget(due.len());
            seen.extend(due.into_iter().map(|(id, _)| id));
        }
        assert_eq!(seen.len(), 25);
        assert!(counts.is_empty());
    }
}
