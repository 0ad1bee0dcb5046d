//! A bounded log, which many read.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::item::Item;

/// Most items that are kept, of about 500 bytes each.
const KEPT: usize = 512;

/// Most items that are read at once.
const AT_ONCE: usize = 100;

/// The last items, numbered from zero in the order in which they came.
#[derive(Debug)]
pub(crate) struct Log {
    kept: Mutex<Kept>,
    newest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the first one.
    first: u64,
    /// The number after the last one that is gone and that said itself that others were not told.
    uncounted: u64,
    items: VecDeque<Arc<Item>>,
}

impl Kept {
    fn next(&self) -> u64 {
        self.first + self.items.len() as u64
    }
}

/// What a reader found.
#[derive(Debug)]
pub(crate) struct Read {
    /// How many it asked for that are not kept any more.
    pub skipped: u64,
    /// Whether these are all that is missing: none of them said itself that others were not told.
    pub is_counted: bool,
    /// The next ones.
    pub items: Vec<Arc<Item>>,
    /// The number of what comes after them.
    pub next: u64,
    /// Whether there are more.
    pub has_more: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kept: Mutex::default(),
            newest: watch::Sender::new(0),
        }
    }
}

impl Log {
    /// Adds items, and wakes the readers.
    pub(super) fn push(&self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut kept = self.kept();
        kept.items.extend(items.into_iter().map(Arc::new));
        while kept.items.len() > KEPT {
            let gone = kept.items.pop_front();
            kept.first += 1;
            if gone.is_some_and(|item| item.is_skipped()) {
                kept.uncounted = kept.first;
            }
        }
        let next = kept.next();
        drop(kept);
        self.newest.send_replace(next);
    }

    /// Tells when something came.
    pub(super) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The number of what comes next.
    pub(super) fn next(&self) -> u64 {
        self.kept().next()
    }

    /// What came from this number on.
    pub(super) fn read(&self, from: u64) -> Read {
        let kept = self.kept();
        let skipped = kept.first.saturating_sub(from);
        let begin = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let items: Vec<_> = kept.items.iter().skip(begin).take(AT_ONCE).cloned().collect();
        let next = from.max(kept.first) + items.len() as u64;
        Read {
            skipped,
            is_counted: from >= kept.uncounted,
            has_more: next < kept.next(),
            items,
            next,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_everything_in_parts_or_is_told_how_much_is_gone() {
        let log = Log::default();
        let push = |count: usize| log.push((0..count).map(|_| Item::skipped(Some(1))).collect());
        push(AT_ONCE + 1);
        let first = log.read(0);
        assert_eq!(
            (first.skipped, first.items.len(), first.has_more),
            (0, AT_ONCE, true)
        );
        let rest = log.read(first.next);
        assert_eq!((rest.items.len(), rest.has_more), (1, false));
        assert_eq!(rest.next, log.next());
        push(KEPT);
        let late = log.read(0);
        assert_eq!(late.skipped, AT_ONCE as u64 + 1);
        assert_eq!(log.read(log.next()).items.len(), 0);
    }

    #[test]
    fn how_much_is_gone_is_not_known_when_some_of_it_told_of_more() {
        let log = Log::default();
        let attempt = || Item {
            kind: "attempt",
            event_type: Box::default(),
            endpoint_id: None,
            status: None,
            text: Box::default(),
        };
        log.push(vec![Item::skipped(Some(40)), attempt()]);
        log.push((0..KEPT).map(|_| attempt()).collect());
        let both = log.read(0);
        assert_eq!((both.skipped, both.is_counted), (2, false));
        let one = log.read(1);
        assert_eq!((one.skipped, one.is_counted), (1, true));
    }
}
