//! Whether an event costs more processor time with more replicas, on one nats-server and on a cluster.

use std::time::Duration;

use serde_json::json;

use super::delivery::Course;
use crate::bench::{Bench, Measured, median};
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

const NAME: &str = "scale";

/// Events a second in all. Each of several replicas then gets its share, which fills its frames and batches more slowly.
const IN_ALL: f64 = 2_000.0;

/// Workers count each other every 15 seconds. After this time they know how many they are, and take streams by turns.
const COUNTED: Duration = Duration::from_secs(22);

/// Events a second for each replica: the load grows with their number.
const EACH: f64 = 500.0;

/// Processor milliseconds a thousand events of all replicas of a service together.
struct Cost {
    ingest: f64,
    worker: f64,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    compare(bench, 1).await?;
    if !bench.effort.quick {
        compare(bench, 3).await?;
    }
    Ok(())
}

/// Compares numbers of replicas of the services, with so many nats-servers and replicas of each stream.
async fn compare(bench: &mut Bench, nats_nodes: u8) -> anyhow::Result<()> {
    let most = if bench.effort.quick { 2 } else { 4 };
    let mut first = None;
    for replicas in [1, 2, 4].into_iter().filter(|replicas| *replicas <= most) {
        let costs = with_replicas(bench, nats_nodes, replicas).await?;
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

async fn with_replicas(
    bench: &mut Bench,
    nats_nodes: u8,
    replicas: usize,
) -> anyhow::Result<Vec<(String, Cost)>> {
    let options = SiteOptions {
        ingest: replicas,
        workers: replicas,
        nats_nodes,
        ..SiteOptions::WHOLE
    };
    let site = Site::start(&options).await?;
    let sink = Sink::start().await?;
    site.endpoint(&sink, "load.sent", json!({})).await?;
    let mut course = Course::new(&site, vec![site.event("load.sent")]);
    bench.step(format!(
        "{replicas} replicas of each service, until they are counted"
    ));
    course.hold(IN_ALL, COUNTED, &[&sink], 1.0).await?;
    let each = EACH * f64::from(u32::try_from(replicas)?);
    let mut costs = Vec::new();
    for (rate, load) in [
        (IN_ALL, format!("{IN_ALL}/s in all")),
        (each, format!("{EACH}/s each")),
    ] {
        let load = format!("{load}, R{nats_nodes}");
        bench.step(format!("{replicas} replicas of each service, {load}"));
        let cost = cost(bench, &mut course, &sink, rate).await?;
        let name = |service| format!("CPU of {service} a 1 000 events, {replicas} ×, {load}");
        bench.report.figure(NAME, name("ingest-api"), cost.ingest, "ms");
        bench
            .report
            .figure(NAME, name("delivery-worker"), cost.worker, "ms");
        costs.push((load, cost));
    }
    site.stop().await?;
    Ok(costs)
}

async fn cost(bench: &Bench, course: &mut Course<'_>, sink: &Sink, per_second: f64) -> anyhow::Result<Cost> {
    let warm_up = bench.effort.slice.mul_f64(0.2);
    course.hold(per_second, warm_up, &[sink], 1.0).await?;
    let (mut ingest, mut worker) = (Vec::new(), Vec::new());
    for _ in 0..bench.effort.rounds {
        let held = course.hold(per_second, bench.effort.slice, &[sink], 1.0).await?;
        let mut measured = Measured::new("");
        measured.add(held.driven, held.cpu);
        ingest.push(measured.cpu_ms("server"));
        worker.push(measured.cpu_ms("worker"));
    }
    Ok(Cost {
        ingest: median(ingest),
        worker: median(worker),
    })
}
