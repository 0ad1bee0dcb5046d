//! Whether an event costs more processor time with more replicas.

use std::time::Duration;

use serde_json::json;

use super::delivery::Course;
use crate::bench::{Bench, Measured, median};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

const NAME: &str = "scale";

/// Events a second for each replica. What grows with their number is the load: at one rate for all, more replicas would
/// only store smaller batches each.
const PER_REPLICA: f64 = 500.0;

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
    let per_second = PER_REPLICA * f64::from(u32::try_from(replicas)?);
    course
        .hold(per_second, Duration::from_secs(1), &[&sink], 1.0)
        .await?;
    let (mut ingest, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..bench.effort.rounds {
        let held = course.hold(per_second, bench.effort.slice, &[&sink], 1.0).await?;
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
