//! Measuring subjects in alternation: one round after the other, each subject once a round, so that what else
//! happens on the machine meets all of them alike. A figure is the median over the rounds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::drive::{self, Driven, Target};
use crate::client::ledger::new_histogram;
use crate::report::Report;
use crate::report::row::{Latency, Row};
use crate::site::Site;
use crate::usage::{Snapshot, Watched};

/// Load before each measurement that does not count, as a part of the measurement.
const WARM_UP: f64 = 0.2;

/// The part of a full length that is measured with `--quick`, and the shortest that says anything.
const QUICK_PART: f64 = 0.1;
const SHORTEST: Duration = Duration::from_millis(1_500);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds of each alternation.
    pub(crate) rounds: usize,
    /// Length of one measurement.
    pub(crate) slice: Duration,
    /// Whether this is `--quick`.
    pub(crate) quick: bool,
    /// Share of the full number of rows, keys and events of the sections that are about many of them.
    pub(crate) scale: f64,
}

impl Effort {
    /// Rounds of what is done one after the other and takes long.
    pub(crate) fn few_rounds(&self) -> usize {
        if self.quick { 1 } else { 3 }
    }

    /// A full length in seconds, or a short one.
    pub(crate) fn lasting(&self, seconds: u32) -> Duration {
        let full = Duration::from_secs(seconds.into());
        if self.quick {
            full.mul_f64(QUICK_PART).max(SHORTEST)
        } else {
            full
        }
    }

    /// A full count, scaled down.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are below ten million and the scale is between 0 and 1"
    )]
    pub(crate) fn scaled(&self, full: usize) -> usize {
        ((full as f64 * self.scale) as usize).max(1)
    }
}

/// A run in progress: what is measured, and what came out so far.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) effort: Effort,
    pub(crate) report: Report,
    /// Another build of this program to compare with.
    pub(crate) against: Option<PathBuf>,
    bar: ProgressBar,
}

/// How the load is made.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// As much as goes.
    Closed,
    /// Requests a second.
    Open(f64),
}

/// One of those that are compared.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    pub(crate) watched: Vec<Watched>,
    /// Its streams are emptied after each measurement.
    pub(crate) site: Option<&'a Site>,
}

/// What the rounds of one subject came to.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    driven: Vec<Driven>,
    /// Processor seconds a thousand events, by process.
    cpu: Vec<BTreeMap<String, f64>>,
}

impl Bench {
    pub(crate) fn new(effort: Effort, against: Option<PathBuf>) -> Self {
        let bar = ProgressBar::no_length();
        let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {prefix}: {wide_msg}");
        bar.set_style(style.expect("the template is well-formed"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            effort,
            against,
            report: Report::default(),
            bar,
        }
    }

    /// Says which section is being measured.
    pub(crate) fn section(&self, name: String) {
        self.bar.set_prefix(name);
    }

    /// Says what is being done.
    pub(crate) fn step(&self, what: impl Into<String>) {
        let what = what.into();
        if self.bar.is_hidden() {
            eprintln!("  {}: {what}", self.bar.prefix());
        }
        self.bar.set_message(what);
    }

    /// Takes the progress bar away.
    pub(crate) fn finish(self) -> Report {
        self.bar.finish_and_clear();
        self.report
    }

    /// Measures all subjects under the same load, in alternation, and writes a row for each.
    pub(crate) async fn compare(
        &mut self,
        section: &'static str,
        label: &str,
        load: Load,
        subjects: &[Subject<'_>],
    ) -> anyhow::Result<Vec<Measured>> {
        let mut measured: Vec<_> = subjects
            .iter()
            .map(|subject| Measured::new(subject.name))
            .collect();
        for round in 1..=self.effort.rounds {
            for (subject, measured) in subjects.iter().zip(&mut measured) {
                self.step(format!(
                    "{label}, {}, round {round} of {}",
                    subject.name, self.effort.rounds
                ));
                let (driven, cpu) = self.measure(subject, load).await?;
                measured.add(driven, cpu);
                if let Some(site) = subject.site {
                    site.settle().await?;
                }
            }
        }
        for measured in &measured {
            self.report.rows.push(measured.row(section, label));
        }
        Ok(measured)
    }

    async fn measure(
        &self,
        subject: &Subject<'_>,
        load: Load,
    ) -> anyhow::Result<(Driven, Vec<(&'static str, Duration)>)> {
        drive(&subject.target, load, self.effort.slice.mul_f64(WARM_UP)).await?;
        let before = Snapshot::take(&subject.watched);
        let driven = drive(&subject.target, load, self.effort.slice).await?;
        Ok((driven, before.since(&subject.watched)))
    }
}

async fn drive(target: &Target, load: Load, length: Duration) -> anyhow::Result<Driven> {
    match load {
        Load::Closed => drive::closed_loop(target, length).await,
        Load::Open(per_second) => drive::open_loop(target, per_second, length, None).await,
    }
}

impl Measured {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            driven: Vec::new(),
            cpu: Vec::new(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
    pub(crate) fn add(&mut self, driven: Driven, cpu: Vec<(&'static str, Duration)>) {
        let thousands = driven.events.max(1) as f64 / 1_000.0;
        let cpu = cpu
            .into_iter()
            .map(|(name, used)| (name.to_owned(), used.as_secs_f64() / thousands));
        self.cpu.push(cpu.collect());
        self.driven.push(driven);
    }

    /// Accepted events a second.
    pub(crate) fn per_second(&self) -> f64 {
        median(self.driven.iter().map(Driven::per_second))
    }

    /// A quantile of the latency, in milliseconds.
    pub(crate) fn latency_ms(&self, quantile: f64) -> f64 {
        median(self.driven.iter().map(|driven| millis(&driven.latency, quantile)))
    }

    /// Processor milliseconds of a process a thousand events.
    pub(crate) fn cpu_ms(&self, process: &str) -> f64 {
        median(
            self.cpu
                .iter()
                .map(|cpu| cpu.get(process).copied().unwrap_or_default()),
        ) * 1_000.0
    }

    pub(crate) fn row(&self, section: &'static str, label: &str) -> Row {
        let mut latency = new_histogram();
        for driven in &self.driven {
            latency
                .add(&driven.latency)
                .expect("all histograms have the same bounds");
        }
        let processes = self.cpu.iter().flat_map(BTreeMap::keys);
        let cpu = processes.map(|name| (name.clone(), self.cpu_ms(name) / 1_000.0));
        Row {
            section,
            load: label.to_owned(),
            subject: self.name.to_owned(),
            per_second: self.per_second(),
            latency: Some(Latency {
                p50: self.latency_ms(0.5),
                p95: self.latency_ms(0.95),
                p99: self.latency_ms(0.99),
                max: self.latency_ms(1.0),
                curve: curve(&latency),
            }),
            cpu: cpu.collect(),
            failed: self.driven.iter().map(|driven| driven.failed).sum(),
        }
    }
}

/// A quantile in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "no latency comes near 2^52 ns")]
pub(crate) fn millis(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1e6
}

/// The latency, in milliseconds, at ever finer quantiles.
pub(crate) fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let nines = [
        0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999,
    ];
    nines
        .map(|quantile| (quantile, millis(histogram, quantile)))
        .to_vec()
}

/// The middle of some figures; 0 of none.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!(median([3.0, 1.0, 2.0]).total_cmp(&2.0).is_eq());
        assert!(median([4.0, 1.0, 2.0, 3.0]).total_cmp(&2.5).is_eq());
        assert!(median([]).total_cmp(&0.0).is_eq());
    }
}
