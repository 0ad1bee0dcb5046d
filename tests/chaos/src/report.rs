//! What a fault came to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use e2e::{Answered, Verdict};

/// How the run of a fault ended.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each fault, not one for each event"
)]
pub enum Outcome {
    /// It was judged.
    Ran(Report),
    /// This machine cannot do it, for this reason.
    Skipped(String),
}

/// The end of a fault. A step that fails panics on the spot: a [`World`](e2e::World) that is dropped before its end
/// panics too, and its complaint would hide the reason.
pub(crate) type Tried = Result<Outcome, Never>;

/// What no fault returns.
pub(crate) enum Never {}

impl<E: fmt::Display> From<E> for Never {
    #[track_caller]
    fn from(reason: E) -> Self {
        panic!("{reason:#}")
    }
}

/// What became of a run's events, and of the bounds on it.
#[derive(Debug)]
pub struct Report {
    /// From the first event to the last delivery.
    pub took: Duration,
    /// The checker's counts.
    pub verdict: Verdict,
    /// What became of the first events that were lost, that came twice, and that came out of order.
    pub fates: Vec<String>,
    /// The fault's own figures.
    pub figures: Vec<String>,
    /// Every bound that did not hold.
    pub broken: Vec<String>,
}

impl Report {
    pub(crate) fn new(took: Duration, verdict: Verdict) -> Self {
        Self {
            took,
            verdict,
            fates: Vec::new(),
            figures: Vec::new(),
            broken: Vec::new(),
        }
    }

    /// Adds a figure without a bound.
    pub(crate) fn note(&mut self, figure: impl Into<String>) {
        self.figures.push(figure.into());
    }

    /// Adds a figure with the bound that it has to keep.
    pub(crate) fn at_most<T: PartialOrd + Copy + fmt::Debug>(&mut self, what: &str, value: T, bound: T) {
        self.figures.push(format!("{what} {value:?}"));
        if value > bound {
            self.broken
                .push(format!("{what} is {value:?}, more than {bound:?}"));
        }
    }

    /// Adds a figure that has to be at least so much.
    pub(crate) fn at_least<T: PartialOrd + Copy + fmt::Debug>(&mut self, what: &str, value: T, bound: T) {
        self.figures.push(format!("{what} {value:?}"));
        if value < bound {
            self.broken
                .push(format!("{what} is {value:?}, less than {bound:?}"));
        }
    }

    /// What every fault must leave: each event that was answered 202 is delivered, as it was sent and in the order of its key.
    pub(crate) fn nothing_lost(&mut self) {
        let Verdict {
            lost,
            altered,
            misordered,
            ..
        } = &self.verdict;
        let undelivered = self.verdict.dead + self.verdict.pending;
        if let Some(id) = lost.first() {
            self.broken.push(format!("{} lost, such as {id}", lost.len()));
        }
        if let Some(id) = altered.first() {
            self.broken
                .push(format!("{} altered, such as {id}", altered.len()));
        }
        if let Some(id) = misordered.first() {
            self.broken
                .push(format!("{} out of order, such as {id}", misordered.len()));
        }
        if undelivered > 0 {
            self.broken.push(format!("{undelivered} were not delivered"));
        }
    }

    /// Whether every bound held.
    pub fn is_good(&self) -> bool {
        self.broken.is_empty()
    }
}

/// How requests ended, in a form to be read.
pub(crate) fn summary(answers: &[Answered]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for answer in answers {
        *counts.entry(kind(answer)).or_default() += 1;
    }
    let counts: Vec<_> = counts
        .iter()
        .map(|(kind, count)| format!("{count} × {kind}"))
        .collect();
    counts.join(", ")
}

fn kind(answer: &Answered) -> String {
    match &answer.outcome {
        e2e::Outcome::Accepted(_) => "202".to_owned(),
        e2e::Outcome::Refused { status, .. } => status.to_string(),
        e2e::Outcome::Unanswered(_) => "no answer".to_owned(),
    }
}

/// The smallest of `times` that 99 in 100 of them do not exceed.
pub(crate) fn p99(times: Vec<Duration>) -> Duration {
    percentile(times, 99)
}

/// The smallest of `times` that half of them do not exceed.
pub(crate) fn p50(times: Vec<Duration>) -> Duration {
    percentile(times, 50)
}

fn percentile(mut times: Vec<Duration>, percent: usize) -> Duration {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100);
    times.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// The headings of the table that [`row`] fills.
pub fn heading() -> String {
    format!(
        "{:<16} {:>6} {:>8} {:>7} {:>9} {:>4} {:>7} {:>4} {:>10} {:>7}  figures",
        "fault",
        "time",
        "accepted",
        "stored",
        "delivered",
        "dead",
        "pending",
        "lost",
        "duplicated",
        "altered"
    )
}

/// One fault's line of the table.
pub fn row(name: &str, outcome: &Outcome) -> String {
    let report = match outcome {
        Outcome::Skipped(reason) => return format!("{name:<16} SKIPPED: {reason}"),
        Outcome::Ran(report) => report,
    };
    let verdict = &report.verdict;
    let mut line = format!(
        "{name:<16} {:>4} s {:>8} {:>7} {:>9} {:>4} {:>7} {:>4} {:>10} {:>7}  {}",
        report.took.as_secs(),
        verdict.accepted,
        verdict.stored,
        verdict.delivered,
        verdict.dead,
        verdict.pending,
        verdict.lost.len(),
        verdict.duplicated.len(),
        verdict.altered.len(),
        report.figures.join("; "),
    );
    let fates = report.fates.iter().filter(|_| !report.is_good());
    for broken in report.broken.iter().chain(fates) {
        line.push_str("\n                 BROKEN: ");
        line.push_str(broken);
    }
    line
}
