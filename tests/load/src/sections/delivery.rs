//! Webhooks, end to end to a receiver on this machine.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::bench::{Bench, Measured, curve, median, millis};
use crate::client::drive::{self, Driven, Target};
use crate::client::ledger::Ledger;
use crate::client::request::Request;
use crate::report::row::{Latency, Row};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::Snapshot;

pub(crate) const NAME: &str = "delivery";

/// Rates between which the highest one is looked for, in events a second.
const LOWEST: f64 = 1_000.0;
const HIGHEST: f64 = 30_000.0;

/// How often the backlog is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// How long the webhooks of a rate that was too high may take to arrive.
const DRAIN: Duration = Duration::from_secs(120);

/// Events of one rate.
pub(crate) struct Held {
    pub(crate) driven: Driven,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) cpu: Vec<(&'static str, Duration)>,
    /// Whether the webhooks kept up.
    pub(crate) kept_up: bool,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let site = Site::start(&SiteOptions::WHOLE).await?;
    let sink = Sink::start().await?;
    site.endpoint(&sink, "load.sent", json!({})).await?;
    let mut course = Course::new(&site, vec![site.event("load.sent")]);
    low_rate(bench, &mut course, &sink).await?;
    highest_rate(bench, &mut course, &sink, "highest rate", 4_000.0).await?;
    if !bench.effort.quick {
        site.endpoint(&sink, "load.wide", json!({"max_in_flight": 256}))
            .await?;
        course.requests = vec![site.event("load.wide")];
        highest_rate(bench, &mut course, &sink, "256 in flight", 8_000.0).await?;
    }
    // What has arrived without its result being recorded comes again when its lease ends.
    site.until_delivered().await?;
    #[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]
    bench.report.at_most(
        NAME,
        "events that arrived more than once",
        course.repeated() as f64,
        0.0,
        "",
    );
    site.stop().await
}

/// A series of rates on one site. Numbers of events go on from one to the next.
pub(crate) struct Course<'a> {
    site: &'a Site,
    requests: Vec<Request>,
    sent: u64,
    /// One for each rate.
    ledgers: Vec<Arc<Ledger>>,
}

impl<'a> Course<'a> {
    pub(crate) fn new(site: &'a Site, requests: Vec<Request>) -> Self {
        Self {
            site,
            requests,
            sent: 0,
            ledgers: Vec::new(),
        }
    }

    /// How often events have arrived that had arrived before, at any rate up to now.
    fn repeated(&self) -> u64 {
        self.ledgers.iter().map(|ledger| ledger.repeated()).sum()
    }

    /// Sends at a rate for a time, and then waits for the webhooks of the events for which `arrives` is true of
    /// their share of all events.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of events are far below 2^52"
    )]
    pub(crate) async fn hold(
        &mut self,
        per_second: f64,
        length: Duration,
        sinks: &[&Sink],
        share: f64,
    ) -> anyhow::Result<Held> {
        let events = (per_second * length.as_secs_f64()) as u64 + 1;
        let ledger = Arc::new(Ledger::new(self.sent, usize::try_from(events)?));
        self.sent += events;
        self.ledgers.push(ledger.clone());
        for sink in sinks {
            sink.record_in(&ledger);
        }
        let target = Target {
            addresses: self.site.addresses(),
            requests: self.requests.clone(),
            keys: None,
            connections: 128,
        };
        let watched = self.site.watched();
        let before = Snapshot::take(&watched);
        let driving = drive::open_loop(&target, per_second, length, Some(ledger.clone()));
        let watching = backlogs(length, || missing(&ledger, share));
        let (driven, backlogs) = tokio::join!(driving, watching);
        let driven = driven?;
        let cpu = before.since(&watched);
        ensure!(
            driven.failed == 0,
            "{} requests were not answered 202",
            driven.failed
        );
        let on_time = driven.elapsed < length.mul_f64(1.02) + Duration::from_millis(100);
        let kept_up = on_time && !is_growing(backlogs, per_second * 0.1);
        let started = Instant::now();
        while missing(&ledger, share) > 0.0 && started.elapsed() < DRAIN {
            tokio::time::sleep(LOOK).await;
        }
        let left = missing(&ledger, share);
        ensure!(left <= 0.0, "{left} webhooks have not arrived after {DRAIN:?}");
        Ok(Held {
            driven,
            ledger,
            cpu,
            kept_up,
        })
    }
}

/// Webhooks that are yet to arrive, when a share of the events has one.
#[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^52")]
fn missing(ledger: &Ledger, share: f64) -> f64 {
    let (accepted, arrived) = ledger.counts();
    (accepted as f64 * share).floor() - arrived as f64
}

/// The backlog at each [`LOOK`] of so long a time.
async fn backlogs(length: Duration, missing: impl Fn() -> f64) -> Vec<f64> {
    let mut looks = tokio::time::interval(LOOK);
    let mut backlogs = Vec::new();
    let end = Instant::now() + length;
    while Instant::now() < end {
        looks.tick().await;
        backlogs.push(missing());
    }
    backlogs
}

/// Whether a backlog is longer in its last quarter than it was in its second by more than `allowed`: in the median, since
/// a look may fall into a moment in which Postgres or the machine does something else.
fn is_growing(mut backlogs: Vec<f64>, allowed: f64) -> bool {
    let quarter = backlogs.len() / 4;
    let last = median(backlogs.split_off(3 * quarter));
    let second = median(backlogs[quarter..2 * quarter].to_vec());
    last > second.max(0.0) + allowed
}

async fn low_rate(bench: &mut Bench, course: &mut Course<'_>, sink: &Sink) -> anyhow::Result<()> {
    bench.step("200 events/s");
    course.hold(200.0, bench.effort.lasting(2), &[sink], 1.0).await?;
    let length = bench.effort.lasting(20);
    let held = course.hold(200.0, length, &[sink], 1.0).await?;
    let arrival = held.ledger.accept_to_arrival(|_| true);
    bench.report.at_most(
        NAME,
        "p50 from accept to arrival at 200/s",
        millis(&arrival, 0.5),
        2.5,
        "ms",
    );
    bench.report.at_most(
        NAME,
        "p99 from accept to arrival at 200/s",
        millis(&arrival, 0.99),
        10.0,
        "ms",
    );
    let whole = held.ledger.due_to_arrival(|_| true);
    let figure = |quantile| millis(&whole, quantile);
    bench
        .report
        .figure(NAME, "p50 from sending to arrival at 200/s", figure(0.5), "ms");
    bench
        .report
        .figure(NAME, "p99 from sending to arrival at 200/s", figure(0.99), "ms");
    bench.report.rows.push(row("200 events/s", &held, &arrival));
    Ok(())
}

/// Finds the highest rate at which the webhooks of one endpoint keep up, and holds it.
async fn highest_rate(
    bench: &mut Bench,
    course: &mut Course<'_>,
    sink: &Sink,
    name: &str,
    aim: f64,
) -> anyhow::Result<()> {
    let best = search(bench, course, sink, name, 1.0).await?;
    let held = hold_for_long(bench, course, sink, best, 1.0).await?;
    let what = format!("events/s delivered without a backlog, {name}");
    bench
        .report
        .at_least(NAME, what, held.driven.per_second(), aim, "/s");
    let arrival = held.ledger.accept_to_arrival(|_| true);
    bench.report.rows.push(row(name, &held, &arrival));
    Ok(())
}

/// Finds the highest rate at which webhooks keep up for a short time, or for a part of that time. One at which they do not is tried
/// once more: the machine may have done something else.
pub(crate) async fn search(
    bench: &Bench,
    course: &mut Course<'_>,
    sink: &Sink,
    name: &str,
    part: f64,
) -> anyhow::Result<f64> {
    let length = bench.effort.lasting(6).mul_f64(part);
    let (mut good, mut bad) = (LOWEST, None);
    while good < HIGHEST {
        let rate = bad.map_or(good * 1.4, |bad| f64::midpoint(good, bad));
        if bad.is_some_and(|bad| bad / good < 1.08) {
            break;
        }
        bench.step(format!("{name}: {rate:.0} events/s?"));
        let first = course.hold(rate, length, &[sink], 1.0).await?;
        if first.kept_up || course.hold(rate, length, &[sink], 1.0).await?.kept_up {
            good = rate;
        } else {
            bad = Some(rate);
        }
    }
    Ok(good)
}

/// Holds a rate for long, or for a part of that time, or the next lower one at which webhooks keep up so long.
pub(crate) async fn hold_for_long(
    bench: &Bench,
    course: &mut Course<'_>,
    sink: &Sink,
    best: f64,
    part: f64,
) -> anyhow::Result<Held> {
    let length = bench.effort.lasting(30).mul_f64(part);
    let mut rate = best;
    loop {
        bench.step(format!("holding {rate:.0} events/s for {length:?}"));
        let held = course.hold(rate, length, &[sink], 1.0).await?;
        if held.kept_up || rate < LOWEST / 2.0 {
            return Ok(held);
        }
        rate *= 0.92;
    }
}

/// A row whose latency is that from accept to arrival.
fn row(load: &str, held: &Held, arrival: &hdrhistogram::Histogram<u64>) -> Row {
    let mut measured = Measured::new("accept to arrival");
    measured.add(held.driven.clone(), held.cpu.clone());
    Row {
        latency: Some(Latency {
            p50: millis(arrival, 0.5),
            p95: millis(arrival, 0.95),
            p99: millis(arrival, 0.99),
            max: millis(arrival, 1.0),
            curve: curve(arrival),
        }),
        ..measured.row(NAME, load)
    }
}
