//! Whether an event costs more processor time with more replicas.

use std::time::Duration;

use serde_json::json;

use super::delivery::Course;
use crate::bench::{Bench, Measured, median};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

const NAME: &str = "scale";

/// Events a second in all. More replicas then store smaller batches each, which is what they cost when the load does not
/// grow with them.
const IN_ALL: f64 = 2_000.0;

/// Events a second for each replica: the load grows with their number.
const EACH: f64 = 500.0;

/// Processor milliseconds a thousand events of all replicas of a service together.
struct Cost {
    ingest: f64,
    worker: f64,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut first = None;
    for replicas in [1, 2, 4] {
        let costs = with_replicas(bench, replicas).await?;
        let Some(of_one) = &first else {
            first = Some(costs);
            continue;
        };
        for ((load, cost), (_, one)) in costs.iter().zip(of_one) {
            let mut ratio = |service, of_all: f64, of_one: f64| {
                let what = format!("CPU of {service} an event, {replicas} replicas over 1, {load}");
                bench.report.at_most(NAME, what, of_all / of_one, 1.15, "×");
            };
            ratio("ingest-api", cost.ingest, one.ingest);
            ratio("delivery-worker", cost.worker, one.worker);
        }
    }
    Ok(())
}

async fn with_replicas(bench: &mut Bench, replicas: usize) -> anyhow::Result<[(String, Cost); 2]> {
    let options = SiteOptions {
        ingest: replicas,
        workers: replicas,
        ..SiteOptions::WHOLE
    };
    let site = Site::start(&options).await?;
    let sink = Sink::start().await?;
    site.endpoint(&sink, "load.sent", json!({})).await?;
    let mut course = Course::new(&site, vec![site.event("load.sent")]);
    let each = EACH * f64::from(u32::try_from(replicas)?);
    let costs = [
        (
            format!("{IN_ALL}/s in all"),
            cost(bench, &mut course, &sink, IN_ALL, replicas).await?,
        ),
        (
            format!("{EACH}/s each"),
            cost(bench, &mut course, &sink, each, replicas).await?,
        ),
    ];
    site.stop().await?;
    Ok(costs)
}

async fn cost(
    bench: &mut Bench,
    course: &mut Course<'_>,
    sink: &Sink,
    per_second: f64,
    replicas: usize,
) -> anyhow::Result<Cost> {
    bench.step(format!(
        "{replicas} replicas of each service, {per_second} events/s"
    ));
    course
        .hold(per_second, Duration::from_secs(1), &[sink], 1.0)
        .await?;
    let (mut ingest, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..bench.effort.rounds {
        let held = course.hold(per_second, bench.effort.slice, &[sink], 1.0).await?;
        let mut measured = Measured::new("");
        measured.add(held.driven, held.cpu);
        ingest.push(measured.cpu_ms("server"));
        worker.push(measured.cpu_ms("worker"));
    }
    let cost = Cost {
        ingest: median(ingest),
        worker: median(worker),
    };
    let name = |service| format!("CPU of {service} a 1 000 events, {replicas} × at {per_second}/s");
    bench.report.figure(NAME, name("ingest-api"), cost.ingest, "ms");
    bench
        .report
        .figure(NAME, name("delivery-worker"), cost.worker, "ms");
    Ok(cost)
}
