//! Memory at a usual load and with a large backlog, the size of the programs, and the time that they take to start.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use penstock_local::Service;
use serde_json::json;

use super::delivery::Course;
use super::flat::{fill_stream, stop_worker};
use crate::bench::{Bench, median};
use crate::seed::{self, Due};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::peak_mb;

const NAME: &str = "memory";
const PER_SECOND: f64 = 1_172.0;
const BACKLOG: usize = 1_000_000;
const STARTS: usize = 5;

const INGEST_MB: f64 = 64.0;
const WORKER_MB: f64 = 128.0;

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    programs(bench)?;
    let mut site = Site::start(&SiteOptions::WHOLE).await?;
    let sink = Sink::start().await?;
    site.endpoint(&sink, "load.sent", json!({})).await?;
    usual_load(bench, &site, &sink).await?;
    backlog_in_the_stream(bench, &mut site).await?;
    backlog_in_the_table(bench, &site, &sink).await?;
    drop(site);
    starts(bench).await
}

async fn usual_load(bench: &mut Bench, site: &Site, sink: &Sink) -> anyhow::Result<()> {
    bench.step(format!("{PER_SECOND} events/s"));
    let length = bench.effort.lasting(20);
    let mut course = Course::new(site, vec![site.event("load.sent")]);
    course.hold(PER_SECOND, length, &[sink], 1.0).await?;
    peaks(bench, site, &format!("at {PER_SECOND} events/s"))
}

fn peaks(bench: &mut Bench, site: &Site, when: &str) -> anyhow::Result<()> {
    let (ingest, worker) = (peak_mb(site.ingest_pid()?)?, peak_mb(site.worker_pid()?)?);
    bench.report.at_most(
        NAME,
        format!("peak memory of ingest-api {when}"),
        ingest,
        INGEST_MB,
        "MB",
    );
    bench.report.at_most(
        NAME,
        format!("peak memory of delivery-worker {when}"),
        worker,
        WORKER_MB,
        "MB",
    );
    Ok(())
}

/// Events that wait in the stream; no endpoint wants them.
async fn backlog_in_the_stream(bench: &mut Bench, site: &mut Site) -> anyhow::Result<()> {
    let events = bench.effort.scaled(BACKLOG) as u64;
    bench.step(format!("{events} events in the stream"));
    stop_worker(site).await?;
    fill_stream(site, events).await?;
    site.stack.worker_mut(0).start().await?;
    let started = Instant::now();
    while site.frames().await? > 0 {
        ensure!(
            started.elapsed() < Duration::from_secs(300),
            "the stream does not drain"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    peaks(bench, site, &format!("after {events} waiting events"))
}

/// Due deliveries of an endpoint that hangs, beside the usual load.
async fn backlog_in_the_table(bench: &mut Bench, site: &Site, sink: &Sink) -> anyhow::Result<()> {
    let rows = bench.effort.scaled(BACKLOG);
    bench.step(format!("{rows} due deliveries of an endpoint that hangs"));
    let hanging = Sink::start().await?;
    hanging.hang();
    let endpoint = site.endpoint(&hanging, "load.hangs", json!({})).await?;
    seed::deliveries(site, endpoint, rows, Due::Now).await?;
    let mut course = Course::new(site, vec![site.event("load.sent")]);
    let length = bench.effort.lasting(20);
    course.hold(PER_SECOND, length, &[sink], 1.0).await?;
    peaks(bench, site, &format!("beside {rows} due deliveries"))
}

/// The time from the start of a process to its readiness, with everything else up.
async fn starts(bench: &mut Bench) -> anyhow::Result<()> {
    let mut site = Site::start(&SiteOptions::WHOLE).await?;
    let (mut ingest, mut worker) = (Vec::new(), Vec::new());
    for round in 1..=STARTS {
        bench.step(format!("starts, {round} of {STARTS}"));
        ingest.push(start_ms(site.stack.ingest_mut(0)).await?);
        worker.push(start_ms(site.stack.worker_mut(0)).await?);
    }
    bench.report.at_most(
        NAME,
        "start of ingest-api until it is ready",
        median(ingest),
        100.0,
        "ms",
    );
    bench.report.at_most(
        NAME,
        "start of delivery-worker until it is ready",
        median(worker),
        100.0,
        "ms",
    );
    site.stop().await
}

async fn start_ms(service: &mut Service) -> anyhow::Result<f64> {
    service.terminate(Duration::from_secs(30)).await?;
    let started = Instant::now();
    service.start_without_waiting()?;
    let ready = format!("{}/readyz", service.url());
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
    while !http
        .get(&ready)
        .send()
        .await
        .is_ok_and(|answer| answer.status().is_success())
    {
        ensure!(
            started.elapsed() < Duration::from_secs(30),
            "{} is not ready",
            service.name()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(started.elapsed().as_secs_f64() * 1_000.0)
}

/// The sizes of the two programs, where they were built beside this one.
fn programs(bench: &mut Bench) -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    for name in ["ingest-api", "delivery-worker"] {
        match std::fs::metadata(program.with_file_name(name)) {
            #[expect(clippy::cast_precision_loss, reason = "no program comes near 2^52 bytes")]
            Ok(file) => bench.report.at_most(
                NAME,
                format!("size of {name}"),
                file.len() as f64 / 1e6,
                20.0,
                "MB",
            ),
            Err(_) => bench.step(format!("{name} is not built: cargo build --release --bins")),
        }
    }
    Ok(())
}
