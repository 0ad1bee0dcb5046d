//! Judging events by a filter as workers do, in slices between which other requests have their turn.

use std::sync::Arc;

use serde::Serialize;
use shared::domain::filter::{Asked, Decision, FilterError, FilterSet, PayloadFilter, Progress, Values};
use tokio::task::yield_now;
use utoipa::ToSchema;

/// Bytes of a payload that are read at once.
const SLICE: usize = 32 * 1_024;

/// Whether a filter lets an event pass.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Verdict {
    /// It does.
    passes: bool,
    /// The condition that decided, as a JSON pointer into the filter. Null when there is no filter, or when it asks about a
    /// payload that is not JSON, which passes none.
    decided_by: Option<String>,
}

/// A filter, or none, ready to judge.
#[derive(Debug)]
pub(crate) struct Judge(Option<(FilterSet, Vec<String>)>);

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample<'a> {
    pub event_type: &'a str,
    pub tenant: Option<&'a str>,
    /// None when it is not JSON.
    pub data: Option<&'a [u8]>,
}

impl Judge {
    /// Reads a filter. Without one every event passes.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(filter: Option<&str>) -> Result<Self, FilterError> {
        let filter = filter.map(PayloadFilter::parse_with_paths).transpose()?;
        let ready = filter.map(|(filter, paths)| (FilterSet::new(vec![Arc::new(filter)]), paths));
        Ok(Self(ready))
    }

    /// Whether the filter lets an event pass.
    pub(crate) async fn judge(&self, sample: Sample<'_>) -> Verdict {
        let Some((set, paths)) = &self.0 else {
            return Verdict {
                passes: true,
                decided_by: None,
            };
        };
        let values = match sample.data {
            Some(data) => read(set, data).await,
            None => None,
        };
        let asked = Asked {
            event_type: sample.event_type,
            tenant: sample.tenant,
            values: values.as_ref(),
        };
        let decision = decide(set, asked).await;
        Verdict {
            passes: decision.passes,
            decided_by: decision.by.and_then(|number| paths.get(number).cloned()),
        }
    }
}

async fn decide(set: &FilterSet, asked: Asked<'_>) -> Decision {
    let Some(mut judging) = set.judge(0, asked) else {
        return Decision {
            passes: false,
            by: None,
        };
    };
    loop {
        match judging.go_on() {
            Progress::Paused(_) => yield_now().await,
            Progress::Decided(decision) => return decision,
        }
    }
}

async fn read<'d>(set: &FilterSet, data: &'d [u8]) -> Option<Values<'d>> {
    let mut scan = set.scan(data).ok()?;
    while !scan.advance(SLICE).ok()? {
        yield_now().await;
    }
    Some(scan.into_values())
}
