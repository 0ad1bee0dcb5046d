//! The leases that a request names.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::lease::Lease;
use crate::http::error::ApiError;

/// Most leases in one list.
const MAX_LEASES: usize = 1_000;

/// The leases of a request, in its order.
#[derive(Debug)]
pub(super) struct Leases {
    texts: Vec<String>,
    /// Those that are leases, each once.
    known: Vec<Lease>,
}

impl Leases {
    /// Reads the list in a field.
    ///
    /// # Errors
    /// 422 when it is empty or too long.
    pub(super) fn read(field: &'static str, texts: Vec<String>) -> Result<Self, ApiError> {
        if !(1..=MAX_LEASES).contains(&texts.len()) {
            let detail = format!("must hold 1 to {MAX_LEASES} leases");
            return Err(ApiError::invalid(field, detail));
        }
        let known: BTreeSet<_> = texts.iter().filter_map(|text| Lease::decode(text)).collect();
        let known = Vec::from_iter(known);
        Ok(Self { texts, known })
    }

    /// Those that are leases, each once.
    pub(super) fn known(&self) -> &[Lease] {
        &self.known
    }

    /// Whether the two have a lease in common.
    pub(super) fn overlaps(&self, others: &Self) -> bool {
        let is_in_others = |lease: &Lease| others.known.binary_search(lease).is_ok();
        self.known.iter().any(is_in_others)
    }

    /// A result for each text, from the outcomes of [`known`](Self::known) in its order; `None` for a text that is no lease.
    pub(super) fn results<O: Copy, R>(
        self,
        outcomes: impl IntoIterator<Item = O>,
        result: impl Fn(String, Option<O>) -> R,
    ) -> Vec<R> {
        let outcomes: BTreeMap<_, _> = self.known.into_iter().zip(outcomes).collect();
        let results = self.texts.into_iter().map(|text| {
            let outcome = Lease::decode(&text).and_then(|lease| outcomes.get(&lease).copied());
            result(text, outcome)
        });
        results.collect()
    }
}
