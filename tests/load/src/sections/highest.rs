//! The highest rate of deliveries of two builds, in alternation, and the latencies at rates that both hold.

use std::path::PathBuf;

use serde_json::json;

use super::delivery::{Course, NAME, hold_for_long, search};
use crate::bench::{Bench, Measured, median, millis};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

/// Events a second at which latencies are compared.
const HELD: [f64; 2] = [200.0, 1_172.0];

/// Parts of the time that a single measurement takes, as both builds are measured in every round.
const SEARCH_PART: f64 = 0.5;
const HOLD_PART: f64 = 0.4;

/// What one build did, in all rounds.
struct Figures {
    /// At its highest rate.
    measured: Measured,
    highest: Vec<f64>,
    /// The median and the 99th percentile from accept to arrival, in milliseconds, at each of [`HELD`].
    latencies: [Vec<(f64, f64)>; HELD.len()],
}

impl Figures {
    fn of(name: &'static str) -> Self {
        Self {
            measured: Measured::new(name),
            highest: Vec::new(),
            latencies: Default::default(),
        }
    }
}

/// Measures this build and the other one.
pub(crate) async fn compare(bench: &mut Bench, program: PathBuf) -> anyhow::Result<()> {
    let this = Site::start(&SiteOptions::WHOLE).await?;
    let options = SiteOptions {
        program: Some(program),
        ..SiteOptions::WHOLE
    };
    let before = Site::start(&options).await?;
    let (sink, sink_before) = (Sink::start().await?, Sink::start().await?);
    this.endpoint(&sink, "load.sent", json!({})).await?;
    before.endpoint(&sink_before, "load.sent", json!({})).await?;
    let course = |site| Course::new(site, vec![Site::event(site, "load.sent")]);
    let mut builds = [
        (course(&this), &sink, Figures::of("penstock")),
        (course(&before), &sink_before, Figures::of("before")),
    ];
    for round in 1..=bench.effort.rounds {
        for (course, sink, figures) in &mut builds {
            bench.step(format!("{}, round {round}", figures.measured.name));
            measure(bench, course, sink, figures).await?;
        }
    }
    let [figures, figures_before] = builds.map(|(_, _, figures)| figures);
    report(bench, figures, figures_before);
    this.stop().await?;
    before.stop().await
}

async fn measure(
    bench: &Bench,
    course: &mut Course<'_>,
    sink: &Sink,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    for (rate, latencies) in HELD.iter().zip(&mut figures.latencies) {
        let held = course.hold(*rate, bench.effort.lasting(10), &[sink], 1.0).await?;
        let arrival = held.ledger.accept_to_arrival(|_| true);
        latencies.push((millis(&arrival, 0.5), millis(&arrival, 0.99)));
    }
    let best = search(bench, course, sink, figures.measured.name, SEARCH_PART).await?;
    let held = hold_for_long(bench, course, sink, best, HOLD_PART).await?;
    figures.highest.push(held.driven.per_second());
    figures.measured.add(held.driven, held.cpu);
    Ok(())
}

fn report(bench: &mut Bench, this: Figures, older: Figures) {
    let report = &mut bench.report;
    for figures in [&this, &older] {
        report
            .rows
            .push(figures.measured.row(NAME, "highest rate, in turn"));
    }
    let (rate, rate_before) = (median(this.highest), median(older.highest));
    report.figure(NAME, "highest rate, the build before", rate_before, "/s");
    report.at_least(
        NAME,
        "highest rate, over the build before",
        rate / rate_before,
        1.8,
        "×",
    );
    for ((rate, this), older) in HELD.iter().zip(this.latencies).zip(older.latencies) {
        for (what, of) in [
            ("p50", (|pair| pair.0) as fn((f64, f64)) -> f64),
            ("p99", |pair| pair.1),
        ] {
            let ratio = median(this.iter().copied().map(of)) / median(older.iter().copied().map(of));
            let what = format!("{what} from accept to arrival at {rate:.0}/s, over the build before");
            report.at_most(NAME, what, ratio, 1.1, "×");
        }
    }
}
