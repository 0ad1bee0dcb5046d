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
            kept.items.pop_front();
            kept.first += 1;
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
        let push = |count: usize| log.push((0..count).map(|_| Item::skipped(1)).collect());
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
}
