//! Many filters at once.

use std::sync::Arc;

use crate::domain::filter::payload::PayloadFilter;
use crate::domain::filter::pointer::Pointers;
use crate::domain::filter::scan::{Scan, Unreadable, Values};

/// Filters that are asked about the same documents: each document is read once for all of them.
#[derive(Debug)]
pub struct FilterSet {
    pointers: Pointers,
    /// Each filter, and for each of its clauses the index of the pointer.
    filters: Vec<(Arc<PayloadFilter>, Vec<usize>)>,
}

impl FilterSet {
    /// For these filters.
    pub fn new(filters: Vec<Arc<PayloadFilter>>) -> Self {
        let clauses = filters.iter().flat_map(|filter| &filter.clauses);
        let pointers = Pointers::new(clauses.map(|(pointer, _)| pointer.clone()));
        let indexed = filters.into_iter().map(|filter| {
            let clauses = filter.clauses.iter();
            let indexes = clauses
                .filter_map(|(pointer, _)| pointers.index(pointer))
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

    /// Whether every condition of a filter, by its number from 0, holds for what was found in a document. Takes at most
    /// [`steps`](PayloadFilter::steps).
    pub fn matches(&self, number: usize, values: &Values<'_>) -> bool {
        self.filters.get(number).is_some_and(|(filter, indexes)| {
            filter
                .clauses
                .iter()
                .zip(indexes)
                .all(|((_, conditions), index)| {
                    let found = values.get(index);
                    conditions.iter().all(|condition| condition.holds(found))
                })
        })
    }
}

impl PayloadFilter {
    /// Whether every condition holds for this JSON text. For many filters, or a long text, see [`FilterSet`].
    pub fn matches(&self, data: &[u8]) -> bool {
        let set = FilterSet::new(vec![Arc::new(self.clone())]);
        let read = || {
            let mut scan = set.scan(data)?;
            scan.advance(usize::MAX)?;
            Ok::<_, Unreadable>(scan.into_values())
        };
        read().is_ok_and(|values| set.matches(0, &values))
    }
}
