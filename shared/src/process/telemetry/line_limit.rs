//! Log lines that others can cause any number of: some a second are written, the rest is counted.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many lines are written in each [`WINDOW`].
const LINES: u32 = 20;

const WINDOW: Duration = Duration::from_secs(1);

/// A limit for lines of one kind.
#[derive(Debug)]
pub struct LineLimit {
    kind: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LineLimit {
    /// `kind` is the label of what is left out in `penstock_log_lines_left_out_total`.
    pub const fn new(kind: &'static str) -> Self {
        let state = State {
            began: None,
            written: 0,
            left_out: 0,
        };
        Self {
            kind,
            state: Mutex::new(state),
        }
    }

    /// Whether a line may be written: then how many have been left out since the last one.
    pub fn pass(&self) -> Option<u64> {
        let passed = self.pass_at(Instant::now());
        if passed.is_none() {
            metrics::counter!("penstock_log_lines_left_out_total", "kind" => self.kind).increment(1);
        }
        passed
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |began| now.saturating_duration_since(began) >= WINDOW;
        if state.began.is_none_or(is_over) {
            state.began = Some(now);
            state.written = 0;
        }
        if state.written == LINES {
            state.left_out += 1;
            return None;
        }
        state.written += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_with_the_next_line() {
        let limit = LineLimit::new("test");
        let start = Instant::now();
        let mut passed = (0..LINES + 5)
            .filter_map(|_| limit.pass_at(start))
            .collect::<Vec<_>>();
        assert_eq!(passed.len(), LINES as usize);
        passed.dedup();
        assert_eq!(passed, [0]);
        let later = start + WINDOW;
        assert_eq!(limit.pass_at(later), Some(5));
        assert_eq!(limit.pass_at(later), Some(0));
    }
}
