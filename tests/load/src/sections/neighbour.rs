//! Ten endpoints at a hundred events a second each: what one that hangs, or a dead one's backlog, does to the rest.

use serde_json::json;

use super::delivery::{Course, Held};
use super::waiting;
use crate::bench::{Bench, median, millis};
use crate::seed;
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};

const NAME: &str = "neighbour";
const ENDPOINTS: usize = 10;
const PER_SECOND: f64 = 1_000.0;

/// Due deliveries of a dead endpoint.
const BACKLOG: usize = 1_000_000;

/// The p99, from accept to arrival, of the nine in each case.
#[derive(Default)]
struct Found {
    healthy: Vec<f64>,
    hanging: Vec<f64>,
    backlog: Vec<f64>,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut found = Found::default();
    for round in 1..=bench.effort.few_rounds() {
        one_round(bench, &mut found, round).await?;
    }
    let [healthy, hanging, backlog] = [found.healthy, found.hanging, found.backlog].map(median);
    let report = &mut bench.report;
    report.figure(NAME, "p99 of nine endpoints, ten healthy", healthy, "ms");
    report.figure(NAME, "p99 of nine endpoints, the tenth hangs", hanging, "ms");
    report.figure(
        NAME,
        "p99 of nine endpoints, backlog of a dead one",
        backlog,
        "ms",
    );
    report.at_most(
        NAME,
        "p99 beside one that hangs, over without",
        hanging / healthy,
        1.2,
        "×",
    );
    report.at_most(
        NAME,
        "p99 beside a dead one's backlog, over without",
        backlog / healthy,
        1.2,
        "×",
    );
    waiting::measure(bench).await
}

async fn one_round(bench: &mut Bench, found: &mut Found, round: usize) -> anyhow::Result<()> {
    let length = bench.effort.lasting(20);
    let site = Site::start(&SiteOptions::WHOLE).await?;
    let (healthy, tenth) = (Sink::start().await?, Sink::start().await?);
    let mut requests = Vec::new();
    for index in 0..ENDPOINTS {
        let event_type = format!("load.{index}");
        let sink = if index + 1 < ENDPOINTS { &healthy } else { &tenth };
        site.endpoint(sink, &event_type, json!({})).await?;
        requests.push(site.event(&event_type));
    }
    let mut course = Course::new(&site, requests);
    let sinks = [&healthy];
    let nine = 0.9;

    bench.step(format!("all healthy, round {round}"));
    course
        .hold(PER_SECOND, bench.effort.lasting(2), &sinks, nine)
        .await?;
    found
        .healthy
        .push(p99(&course.hold(PER_SECOND, length, &sinks, nine).await?));

    bench.step(format!("one hangs, round {round}"));
    tenth.hang();
    found
        .hanging
        .push(p99(&course.hold(PER_SECOND, length, &sinks, nine).await?));

    let rows = bench.effort.scaled(BACKLOG);
    bench.step(format!(
        "making {rows} due deliveries of a dead endpoint, round {round}"
    ));
    let dead = site.endpoint(&Sink::refusing(), "load.dead", json!({})).await?;
    seed::deliveries(&site, dead, rows, seed::Due::Now).await?;
    bench.step(format!("a dead one's backlog, round {round}"));
    found
        .backlog
        .push(p99(&course.hold(PER_SECOND, length, &sinks, nine).await?));
    // Its drain would wait for the endpoint that hangs.
    drop(site);
    Ok(())
}

fn p99(held: &Held) -> f64 {
    millis(
        &held
            .ledger
            .accept_to_arrival(|index| index % ENDPOINTS != ENDPOINTS - 1),
        0.99,
    )
}
