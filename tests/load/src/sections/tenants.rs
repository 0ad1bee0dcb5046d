//! One organisation with nearly as many tenants as there may be beside one with a single tenant: what an event costs, what a worker
//! needs to hold the endpoints, how soon a new endpoint gets its first delivery, and how fast a small tenant's events are
//! listed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use crate::bench::{Bench, Measured, median, millis};
use crate::client::drive::{self, Target};
use crate::client::ledger::Ledger;
use crate::client::request::{FIRST_NUMBER, Request};
use crate::seed;
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::{Snapshot, peak_mb};

const NAME: &str = "tenants";
/// Some less than the most, so that new ones can be made.
const TENANTS: usize = 95_000;
/// Tenants whose events are sent in turn: each connection holds a request of each.
const SENDERS: usize = 2_000;
const EVENT_TYPE: &str = "load.tenants";
const PER_SECOND: f64 = 1_000.0;

const CHANGES_PER_SECOND: u32 = 200;
const CHANGES_AT_ONCE: usize = 8;
const BESIDE_CHANGES: f64 = 500.0;

/// Events of other tenants beside those that are listed.
const OTHERS: usize = 10_000_000;
const LISTED: usize = 100;

const DRAIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

struct Subject {
    name: &'static str,
    site: Site,
    sink: Sink,
    tenants: usize,
    sent: u64,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let many = bench.effort.scaled(TENANTS);
    let mut subjects = [
        Subject::start(bench, "1 tenant", 1).await?,
        Subject::start(bench, "many tenants", many).await?,
    ];
    let mut measured = subjects.each_ref().map(|subject| Measured::new(subject.name));
    for round in 1..=bench.effort.rounds {
        for (subject, measured) in subjects.iter_mut().zip(&mut measured) {
            bench.step(format!("{}, round {round}", subject.name));
            if round == 1 {
                subject.round(bench.effort.slice.mul_f64(0.3)).await?;
            }
            let (driven, cpu) = subject.round(bench.effort.slice).await?;
            measured.add(driven, cpu);
        }
    }
    for (what, process, wanted) in [("ingest-api", "server", 1.05), ("delivery-worker", "worker", 1.2)] {
        let ratio = measured[1].cpu_ms(process) / measured[0].cpu_ms(process);
        let text = format!("processor time of {what} an event, {many} tenants over 1");
        bench.report.at_most(NAME, text, ratio, wanted, "x");
    }
    for measured in &measured {
        bench.report.rows.push(measured.row(NAME, "1 000/s"));
    }
    let [one, mut many] = subjects;
    one.site.stop().await?;
    holding(bench, &mut many).await?;
    changes(bench, &many).await?;
    listing(bench, &many).await?;
    many.site.stop().await
}

impl Subject {
    async fn start(bench: &Bench, name: &'static str, tenants: usize) -> anyhow::Result<Self> {
        let site = Site::start(&SiteOptions::WHOLE).await?;
        let sink = Sink::start().await?;
        bench.step(format!("making {tenants} tenants"));
        seed::tenants(&site, &sink.url(), tenants).await?;
        Ok(Self {
            name,
            site,
            sink,
            tenants,
            sent: 0,
        })
    }

    fn requests(&self) -> Vec<Request> {
        let senders = self.tenants.min(SENDERS);
        let uid = |number: usize| seed::tenant_uid(number * (self.tenants / senders));
        (0..senders)
            .map(|number| self.site.event_with(EVENT_TYPE, "tenant", &uid(number)))
            .collect()
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts of events are far below 2^52"
    )]
    async fn round(
        &mut self,
        length: Duration,
    ) -> anyhow::Result<(drive::Driven, Vec<(&'static str, Duration)>)> {
        let events = (PER_SECOND * length.as_secs_f64()) as u64 + 1;
        let ledger = Arc::new(Ledger::new(self.sent, events as usize));
        self.sink.record_in(&ledger);
        self.sent += events;
        let target = Target {
            addresses: self.site.addresses(),
            requests: self.requests(),
            keys: None,
            connections: 64,
        };
        let watched = self.site.watched();
        let (before, started) = (Snapshot::take(&watched), Instant::now());
        let driven = drive::open_loop(&target, PER_SECOND, length, Some(ledger.clone())).await?;
        ensure!(
            driven.failed == 0,
            "{} requests were not answered 202",
            driven.failed
        );
        while ledger.counts().1 < driven.events {
            ensure!(started.elapsed() < DRAIN, "webhooks are missing after {DRAIN:?}");
            tokio::time::sleep(LOOK).await;
        }
        Ok((driven, before.since(&watched)))
    }
}

/// A worker that starts: until it delivers what waits, and its memory then.
async fn holding(bench: &mut Bench, subject: &mut Subject) -> anyhow::Result<()> {
    bench.step("a worker that starts");
    let mut times = Vec::new();
    for _ in 0..bench.effort.few_rounds() {
        let worker = subject.site.stack.worker_mut(0);
        worker.terminate(Duration::from_secs(30)).await?;
        let ledger = Arc::new(Ledger::new(subject.sent, 1));
        subject.sink.record_in(&ledger);
        let number = FIRST_NUMBER + subject.sent;
        subject.sent += 1;
        let event = json!({"type": EVENT_TYPE, "tenant": seed::tenant_uid(0), "data": {"n": number}});
        subject.site.post("/v1/events", &event).await?;
        let started = Instant::now();
        subject.site.stack.worker_mut(0).start_without_waiting()?;
        while ledger.counts().1 == 0 {
            ensure!(started.elapsed() < DRAIN, "nothing is delivered");
            tokio::time::sleep(LOOK).await;
        }
        times.push(started.elapsed().as_secs_f64());
    }
    let text = format!(
        "from a worker's start to its first delivery, {} endpoints",
        subject.tenants
    );
    bench.report.at_most(NAME, text, median(times), 3.0, "s");
    let text = format!("peak memory of a worker, {} endpoints", subject.tenants);
    bench
        .report
        .at_most(NAME, text, peak_mb(subject.site.worker_pid()?)?, 250.0, "MB");
    Ok(())
}

/// New endpoints of new tenants, at a rate if the machine can do it, beside other events: from the request that makes one to the
/// arrival of an event that is sent when it is made.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
async fn changes(bench: &mut Bench, subject: &Subject) -> anyhow::Result<()> {
    let length = bench.effort.lasting(20);
    bench.step(format!("{CHANGES_PER_SECOND} new endpoints a second"));
    let target = Target {
        addresses: subject.site.addresses(),
        requests: subject.requests(),
        keys: None,
        connections: 16,
    };
    let count = u64::from(CHANGES_PER_SECOND) * length.as_secs().max(1);
    let sink = Sink::start().await?;
    let ledger = Arc::new(Ledger::new(0, usize::try_from(count)?));
    sink.record_in(&ledger);
    let started = Instant::now();
    let beside = drive::open_loop(&target, BESIDE_CHANGES, length, None);
    let first_delivery = async |number: u64| {
        let due = started + Duration::from_secs_f64(number as f64 / f64::from(CHANGES_PER_SECOND));
        tokio::time::sleep_until(due.into()).await;
        let begun = Instant::now();
        let uid = format!("new-{number}");
        let endpoint = json!({"url": sink.url(), "tenant": uid, "create_tenant": true});
        subject.site.post("/v1/endpoints", &endpoint).await?;
        let event = json!({"type": EVENT_TYPE, "tenant": uid, "data": {"n": FIRST_NUMBER + number}});
        subject.site.post("/v1/events", &event).await?;
        ledger.accepted(FIRST_NUMBER + number, begun);
        anyhow::Ok(())
    };
    let making = async {
        let all = stream::iter(0..count).map(first_delivery);
        let made: Vec<_> = all.buffered(CHANGES_AT_ONCE).try_collect().await?;
        anyhow::Ok((made.len(), started.elapsed()))
    };
    let (beside, made) = tokio::join!(beside, making);
    beside?;
    let (made, took) = made?;
    while ledger.counts().1 < count {
        ensure!(started.elapsed() < DRAIN, "webhooks are missing after {DRAIN:?}");
        tokio::time::sleep(LOOK).await;
    }
    let latency = ledger.due_to_arrival(|_| true);
    let rate = made as f64 / took.as_secs_f64();
    bench.report.figure(NAME, "new endpoints a second", rate, "");
    bench.report.figure(
        NAME,
        "first delivery after a new endpoint, p50",
        millis(&latency, 0.5),
        "ms",
    );
    let text = format!(
        "first delivery after a new endpoint, p99, {} endpoints",
        subject.tenants
    );
    bench
        .report
        .at_most(NAME, text, millis(&latency, 0.99), 50.0, "ms");
    Ok(())
}

/// A page of a small tenant's events beside those of the others.
async fn listing(bench: &mut Bench, subject: &Subject) -> anyhow::Result<()> {
    let others = bench.effort.scaled(OTHERS);
    bench.step(format!("{others} events of others"));
    seed::tenant_events(&subject.site, others, LISTED).await?;
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let page = subject.site.get("/v1/events?tenant=listed").await?;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
        let listed = page["data"].as_array().map_or(0, Vec::len);
        ensure!(listed == 50, "the page has {listed} events");
    }
    let text = format!("a page of a tenant's events beside {others} of others");
    bench.report.at_most(NAME, text, median(times), 10.0, "ms");
    Ok(())
}
