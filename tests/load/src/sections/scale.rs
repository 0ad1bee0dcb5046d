//! Whether an event costs more processor time with more replicas.

use std::time::Duration;

use serde_json::json;

use super::delivery::Course;
use crate::bench::{Bench, Measured, median};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

const NAME: &str = "scale";

/// Events a second, well below what one replica can do here.
const PER_SECOND: f64 = 2_000.0;

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for replicas in [1, 2, 4] {
        found.push(with_replicas(bench, replicas).await?);
    }
    let (one_ingest, one_worker) = found[0];
    for ((ingest, worker), replicas) in found.into_iter().zip([1, 2, 4]).skip(1) {
        let what = |name| format!("CPU of {name} an event, {replicas} replicas over 1");
        bench
            .report
            .at_most(NAME, what("ingest-api"), ingest / one_ingest, 1.15, "×");
        bench
            .report
            .at_most(NAME, what("delivery-worker"), worker / one_worker, 1.15, "×");
    }
    Ok(())
}

/// Processor milliseconds a thousand events of all replicas together.
async fn with_replicas(bench: &mut Bench, replicas: usize) -> anyhow::Result<(f64, f64)> {
    bench.step(format!("{replicas} replicas of each service"));
    let options = SiteOptions {
        ingest: replicas,
        workers: replicas,
        ..SiteOptions::WHOLE
    };
    let site = Site::start(&options).await?;
    let sink = Sink::start().await?;
    site.endpoint(&sink, "load.sent", json!({})).await?;
    let mut course = Course::new(&site, vec![site.event("load.sent")]);
    course
        .hold(PER_SECOND, Duration::from_secs(1), &[&sink], 1.0)
        .await?;
    let (mut ingest, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..bench.effort.rounds {
        let held = course.hold(PER_SECOND, bench.effort.slice, &[&sink], 1.0).await?;
        let mut measured = Measured::new("");
        measured.add(held.driven, held.cpu);
        ingest.push(measured.cpu_ms("server"));
        worker.push(measured.cpu_ms("worker"));
    }
    let (ingest, worker) = (median(ingest), median(worker));
    let name = |service| format!("CPU of {service} a 1 000 events, {replicas} replicas");
    bench.report.figure(NAME, name("ingest-api"), ingest, "ms");
    bench.report.figure(NAME, name("delivery-worker"), worker, "ms");
    site.stop().await?;
    Ok((ingest, worker))
}
