//! Many filters at once.

use std::sync::Arc;

use crate::domain::filter::payload::PayloadFilter;
use crate::domain::filter::plan::{Next, Subject};
use crate::domain::filter::pointer::Pointers;
use crate::domain::filter::scan::{Scan, Unreadable, Values};
use crate::domain::filter::value::{Found, Scalar};

/// Bytes of a text that a search goes through in one step.
const SEARCHED_IN_A_STEP: usize = 4;

/// A search in a text that is longer is a pause.
const LONG_SEARCH: usize = 4 * 1_024;

/// Filters that are asked about the same events: each payload is read once for all of them.
#[derive(Debug)]
pub struct FilterSet {
    pointers: Pointers,
    /// Each filter, and for each of its questions the index of the pointer.
    filters: Vec<(Arc<PayloadFilter>, Vec<usize>)>,
}

/// The event that filters are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its type.
    pub event_type: &'a str,
    /// Whose event it is.
    pub tenant: Option<&'a str>,
    /// What was found in its payload; `None` when that is not JSON.
    pub values: Option<&'a Values<'a>>,
}

/// Whether a filter lets an event pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// It does.
    pub passes: bool,
    /// The number of the condition that was asked last, and so decided. `None` when the filter asks about a payload that is
    /// not JSON, which passes none.
    pub by: Option<usize>,
}

/// How far an evaluation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It goes on. So many steps were taken at once, and others should have their turn.
    Paused(usize),
    /// It has ended.
    Decided(Decision),
}

/// An evaluation of one filter, which goes on in slices.
#[derive(Debug)]
pub struct Judging<'a> {
    filter: &'a PayloadFilter,
    indexes: &'a [usize],
    asked: Asked<'a>,
    next: Next,
    by: Option<usize>,
}

impl FilterSet {
    /// For these filters.
    pub fn new(filters: Vec<Arc<PayloadFilter>>) -> Self {
        let subjects = filters.iter().flat_map(|filter| &filter.questions);
        let pointers = Pointers::new(subjects.filter_map(|question| match &question.subject {
            Subject::Data(pointer) => Some(pointer.clone()),
            Subject::Type | Subject::Tenant => None,
        }));
        let indexed = filters.into_iter().map(|filter| {
            let questions = filter.questions.iter();
            let index = |subject: &Subject| match subject {
                Subject::Data(pointer) => pointers.index(pointer),
                Subject::Type | Subject::Tenant => None,
            };
            // A question about something else than the payload has no place among the pointers.
            let indexes = questions
                .map(|question| index(&question.subject).unwrap_or(usize::MAX))
                .collect();
            (filter, indexes)
        });
        Self {
            filters: indexed.collect(),
            pointers,
        }
    }

    /// Begins to read a document for all filters.
    ///
    /// # Errors
    /// When it is not UTF-8: it matches none of them.
    pub fn scan<'d>(&self, data: &'d [u8]) -> Result<Scan<'d, '_>, Unreadable> {
        Scan::new(data, &self.pointers)
    }

    /// The most that [judging](Self::judge) an event by a filter, by its number from 0, takes: the steps of the filter, and
    /// those of searching in the texts that it searches.
    pub fn steps(&self, number: usize, asked: Asked<'_>) -> u32 {
        let Some((filter, indexes)) = self.filters.get(number) else {
            return 0;
        };
        if !filter.searches {
            return filter.steps();
        }
        let questions = filter.questions.iter().zip(indexes);
        let searched: usize = questions
            .filter(|(question, _)| question.condition.searches())
            .map(|(question, index)| length(asked.about(&question.subject, *index).as_ref()))
            .sum();
        let steps = u32::try_from(searched / SEARCHED_IN_A_STEP).unwrap_or(u32::MAX);
        filter.steps().saturating_add(steps)
    }

    /// Begins to judge an event by a filter, by its number from 0.
    pub fn judge<'a>(&'a self, number: usize, asked: Asked<'a>) -> Option<Judging<'a>> {
        let (filter, indexes) = self.filters.get(number)?;
        let is_unreadable = asked.values.is_none() && filter.asks_data();
        Some(Judging {
            filter,
            indexes,
            asked,
            next: if is_unreadable {
                Next::Decided(false)
            } else {
                filter.first
            },
            by: None,
        })
    }
}

impl Judging<'_> {
    /// Asks one condition after the other, to the end or to the next pause.
    pub fn go_on(&mut self) -> Progress {
        loop {
            let number = match self.next {
                Next::Ask(number) => number,
                Next::Decided(passes) => {
                    let by = self.by;
                    return Progress::Decided(Decision { passes, by });
                }
            };
            let question = &self.filter.questions[number];
            let found = self.asked.about(&question.subject, self.indexes[number]);
            self.by = Some(number);
            self.next = if question.condition.holds(found.as_deref()) {
                question.when_it_holds
            } else {
                question.otherwise
            };
            if self.filter.searches && question.condition.searches() {
                let searched = length(found.as_ref());
                if searched > LONG_SEARCH {
                    return Progress::Paused(searched / SEARCHED_IN_A_STEP);
                }
            }
        }
    }

    /// Judges without a pause.
    pub fn finish(mut self) -> Decision {
        loop {
            if let Progress::Decided(decision) = self.go_on() {
                return decision;
            }
        }
    }
}

/// What stands at a place, or was made to be asked about.
enum Thing<'a> {
    Of(&'a Found<'a>),
    Made(Found<'a>),
}

impl<'a> std::ops::Deref for Thing<'a> {
    type Target = Found<'a>;

    fn deref(&self) -> &Found<'a> {
        match self {
            Self::Of(found) => found,
            Self::Made(found) => found,
        }
    }
}

impl<'a> Asked<'a> {
    fn about(&self, subject: &Subject, index: usize) -> Option<Thing<'a>> {
        let text = |text: &'a str| Thing::Made(Found::Scalar(Scalar::Text(text.into())));
        match subject {
            Subject::Data(_) => self.values?.get(&index).map(Thing::Of),
            Subject::Type => Some(text(self.event_type)),
            Subject::Tenant => self.tenant.map(text),
        }
    }
}

fn length(found: Option<&Thing<'_>>) -> usize {
    match found.map(|found| &**found) {
        Some(Found::Scalar(Scalar::Text(text))) => text.len(),
        _ => 0,
    }
}

impl PayloadFilter {
    /// Whether it lets an event with this JSON text pass that has neither a type nor a tenant.
    #[cfg(test)]
    pub(crate) fn matches(&self, data: &[u8]) -> bool {
        self.judge("", None, Some(data)).passes
    }

    /// Whether it lets an event pass, and what decided; `data` is `None` when it is not JSON. For many filters, or a long text, see
    /// [`FilterSet`].
    pub fn judge(&self, event_type: &str, tenant: Option<&str>, data: Option<&[u8]>) -> Decision {
        let set = FilterSet::new(vec![Arc::new(self.clone())]);
        let read = |data| {
            let mut scan = set.scan(data).ok()?;
            scan.advance(usize::MAX).ok()?;
            Some(scan.into_values())
        };
        let values = data.and_then(read);
        let asked = Asked {
            event_type,
            tenant,
            values: values.as_ref(),
        };
        let none = Decision {
            passes: false,
            by: None,
        };
        set.judge(0, asked).map_or(none, Judging::finish)
    }
}
