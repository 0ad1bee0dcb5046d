//! Whether many keys, many retries or many stored events make anything slower.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use penstock_local::Service;
use serde_json::json;

use crate::bench::{Bench, Load, Subject, median};
use crate::client::drive::{self, Target};
use crate::client::ledger::Ledger;
use crate::keys::Keys;
use crate::seed::{self, Due};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::Snapshot;

const NAME: &str = "flat";

const KEYS: usize = 100_000;

/// Pending retries that are not due, and deliveries that are.
const FEW_RETRIES: usize = 1_000;
const MANY_RETRIES: usize = 1_000_000;
const DUE: usize = 20_000;

/// Stored events, and events that are inserted beside them.
const STORED: usize = 10_000_000;
const INSERTED: u64 = 200_000;
const FEW_INSERTED: u64 = 20_000;

const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    keys(bench).await?;
    claims(bench).await?;
    inserts(bench).await
}

async fn keys(bench: &mut Bench) -> anyhow::Result<()> {
    let site = Site::start(&SiteOptions::INGEST).await?;
    let count = bench.effort.scaled(KEYS);
    bench.step(format!("making {count} keys"));
    let many = Arc::new(Keys::create(&site.database, &site.secrets_key, count).await?);
    let target = |keys: Arc<Keys>| Target {
        addresses: site.addresses(),
        requests: vec![crate::client::request::Request::single(keys.get(0), "load.sent")],
        keys: Some(keys),
        connections: 64,
    };
    let (one, all) = (target(Arc::new(many.first())), target(many.clone()));
    bench.step(format!("using {count} keys for the first time"));
    let (mut used, started) = (0, Instant::now());
    while used < many.len() as u64 {
        // Each pass begins with the first key again, and gets further than the one before.
        used = used.max(
            drive::closed_loop(&all, started.elapsed().max(bench.effort.lasting(3)))
                .await?
                .events,
        );
        site.settle().await?;
        ensure!(
            started.elapsed() < PATIENCE * 2,
            "{count} keys were not all verified in time"
        );
    }
    let subject = |name, target| Subject {
        name,
        target,
        watched: site.watched(),
        site: Some(&site),
    };
    let subjects = [subject("one key", one), subject("many keys", all)];
    let measured = bench
        .compare(NAME, &format!("1 or {count} keys"), Load::Closed, &subjects)
        .await?;
    let [one, many] = &measured[..] else {
        anyhow::bail!("two subjects give two results");
    };
    let what = format!("time of a request with {count} keys, over one");
    bench
        .report
        .at_most(NAME, what, one.per_second() / many.per_second(), 1.2, "×");
    let what = format!("CPU of ingest-api with {count} keys, over one");
    bench
        .report
        .at_most(NAME, what, many.cpu_ms("server") / one.cpu_ms("server"), 1.2, "×");
    drop(subjects);
    site.stop().await
}

async fn claims(bench: &mut Bench) -> anyhow::Result<()> {
    let mut site = Site::start(&SiteOptions::WHOLE).await?;
    stop_worker(&mut site).await?;
    let sink = Sink::start().await?;
    let endpoint = site.endpoint(&sink, "load.sent", json!({})).await?;
    let many = bench.effort.scaled(MANY_RETRIES);
    let mut found = Vec::new();
    let mut retries = 0;
    for wanted in [FEW_RETRIES, many.max(2 * FEW_RETRIES)] {
        bench.step(format!("making {wanted} pending retries"));
        seed::deliveries(&site, endpoint, wanted - retries, Due::Later).await?;
        retries = wanted;
        let mut times = Vec::new();
        for round in 1..=bench.effort.few_rounds() {
            bench.step(format!("{DUE} claims beside {wanted} retries, round {round}"));
            seed::deliveries(&site, endpoint, DUE, Due::Now).await?;
            times.push(time_of_claims(&mut site, &sink).await?);
        }
        let time = median(times);
        bench.report.figure(
            NAME,
            format!("{DUE} deliveries from the table, {wanted} retries"),
            time,
            "s",
        );
        found.push(time);
    }
    let what = format!("claiming with {retries} retries, over {FEW_RETRIES}");
    bench.report.at_most(NAME, what, found[1] / found[0], 1.2, "×");
    site.stop().await
}

/// Starts the worker and measures from the first webhook to the last, in seconds.
async fn time_of_claims(site: &mut Site, sink: &Sink) -> anyhow::Result<f64> {
    let ledger = Arc::new(Ledger::new(0, DUE));
    sink.record_in(&ledger);
    // Webhooks may come before it says that it is ready.
    site.stack.worker_mut(0).start_without_waiting()?;
    let until = async |count: u64| {
        let started = Instant::now();
        while ledger.counts().1 < count {
            ensure!(
                started.elapsed() < PATIENCE,
                "only {} webhooks arrived",
                ledger.counts().1
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Instant::now())
    };
    let first = until(1).await?;
    let time = until(DUE as u64).await?.duration_since(first);
    stop_worker(site).await?;
    Ok(time.as_secs_f64())
}

async fn inserts(bench: &mut Bench) -> anyhow::Result<()> {
    let mut site = Site::start(&SiteOptions::WHOLE).await?;
    stop_worker(&mut site).await?;
    let stored = bench.effort.scaled(STORED);
    let empty = time_of_inserts(bench, &mut site, "no").await?;
    let started = Instant::now();
    seed::events(&site, stored, |done| {
        bench.step(format!(
            "making {stored} events: {done}, {:.0?}",
            started.elapsed()
        ));
    })
    .await?;
    let full = time_of_inserts(bench, &mut site, &stored.to_string()).await?;
    let what = format!("storing events beside {stored}, over none");
    bench.report.at_most(NAME, what, full / empty, 1.2, "×");
    site.stop().await
}

/// Lets events wait in the stream, starts the worker and measures until all are stored: seconds a round.
async fn time_of_inserts(bench: &mut Bench, site: &mut Site, stored: &str) -> anyhow::Result<f64> {
    let (mut times, mut cpu) = (Vec::new(), Vec::new());
    let inserted = if bench.effort.quick {
        FEW_INSERTED
    } else {
        INSERTED
    };
    for round in 1..=bench.effort.few_rounds() {
        bench.step(format!(
            "{inserted} inserts beside {stored} events, round {round}"
        ));
        let sent = fill_stream(site, inserted).await?;
        let postgres = site.watched();
        let before = Snapshot::take(&postgres);
        site.stack.worker_mut(0).start().await?;
        let started = Instant::now();
        while site.frames().await? > 0 {
            ensure!(
                started.elapsed() < PATIENCE,
                "events are not stored after {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let per_event = 1.0 / f64::from(u32::try_from(sent)?);
        times.push(started.elapsed().as_secs_f64() * per_event);
        let used = before.since(&postgres);
        let used = used.iter().find(|(name, _)| *name == "postgres");
        cpu.push(used.map_or(0.0, |(_, used)| used.as_secs_f64() * per_event));
        stop_worker(site).await?;
    }
    let (time, cpu) = (median(times), median(cpu));
    let name = |what: &str| format!("{what} beside {stored} events");
    bench
        .report
        .figure(NAME, name("events/s stored"), 1.0 / time, "/s");
    bench
        .report
        .figure(NAME, name("CPU of Postgres a 1 000 events"), cpu * 1e6, "ms");
    Ok(time)
}

/// Publishes about `count` events, with nobody to take them.
pub(crate) async fn fill_stream(site: &Site, count: u64) -> anyhow::Result<u64> {
    let target = Target {
        addresses: site.addresses(),
        requests: vec![site.batch(100)],
        keys: None,
        connections: 16,
    };
    let mut sent = 0;
    while sent < count {
        sent += drive::closed_loop(&target, Duration::from_millis(500))
            .await?
            .events;
    }
    Ok(sent)
}

pub(crate) async fn stop_worker(site: &mut Site) -> anyhow::Result<()> {
    let worker: &mut Service = site.stack.worker_mut(0);
    worker.terminate(Duration::from_secs(30)).await?;
    Ok(())
}
