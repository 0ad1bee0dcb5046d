//! An ordered endpoint beside a thousand others of a thousand keys each, all of which wait for their next attempt: what
//! they do to it, and what they cost Postgres while nothing happens.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::delivery::Course;
use crate::bench::{Bench, median, millis};
use crate::seed;
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::{POSTGRES, Snapshot};

const NAME: &str = "neighbour";
const PER_SECOND: f64 = 200.0;

/// Keys of the endpoint that is measured.
const KEYS: usize = 50;

/// Endpoints that wait, and keys of each. With the one beside them they are as many as an organisation may have.
const ENDPOINTS: usize = 999;
const WAITING_KEYS: usize = 1_000;

/// One state of the site.
#[derive(Default)]
struct Found {
    /// From accept to arrival, in milliseconds.
    p99: Vec<f64>,
    /// Of one core, in per cent, while no event comes.
    idle: Vec<f64>,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let (mut alone, mut beside) = (Found::default(), Found::default());
    for round in 1..=bench.effort.few_rounds() {
        one_round(bench, [&mut alone, &mut beside], round).await?;
    }
    let [alone, beside] = [alone, beside].map(|found| (median(found.p99), median(found.idle)));
    let report = &mut bench.report;
    report.figure(NAME, "p99 of an ordered endpoint alone", alone.0, "ms");
    report.figure(NAME, "p99 of it beside a million keys that wait", beside.0, "ms");
    report.figure(
        NAME,
        "Postgres without events, one endpoint",
        alone.1,
        "% of a core",
    );
    report.figure(
        NAME,
        "Postgres without events, a million keys wait",
        beside.1,
        "% of a core",
    );
    let over = beside.0 / alone.0;
    report.at_most(NAME, "p99 beside keys that wait, over without", over, 1.2, "×");
    let more = beside.1 - alone.1;
    report.at_most(
        NAME,
        "what keys that wait cost Postgres",
        more,
        5.0,
        "% of a core",
    );
    Ok(())
}

async fn one_round(bench: &mut Bench, found: [&mut Found; 2], round: usize) -> anyhow::Result<()> {
    let site = Site::start(&SiteOptions::WHOLE).await?;
    let sink = Sink::start().await?;
    let [alone, beside] = found;
    site.endpoint(&sink, "load.ordered", json!({"ordered": true}))
        .await?;
    let requests =
        (0..KEYS).map(|key| site.event_with("load.ordered", "ordering_key", &format!("key-{key}")));
    let mut course = Course::new(&site, requests.collect());

    bench.step(format!("an ordered endpoint alone, round {round}"));
    observe(bench, &site, &mut course, &sink, alone).await?;

    let (endpoints, keys) = (bench.effort.scaled(ENDPOINTS), bench.effort.scaled(WAITING_KEYS));
    bench.step(format!(
        "making {endpoints} endpoints of {keys} keys that wait, round {round}"
    ));
    let refusing = Sink::refusing();
    let mut waiting = Vec::new();
    for _ in 0..endpoints {
        let fields = json!({"ordered": true});
        waiting.push(site.endpoint(&refusing, "load.waiting", fields).await?);
    }
    seed::waiting_keys(&site, &waiting, keys).await?;
    bench.step(format!("beside keys that wait, round {round}"));
    observe(bench, &site, &mut course, &sink, beside).await?;
    site.stop().await
}

async fn observe(
    bench: &Bench,
    site: &Site,
    course: &mut Course<'_>,
    sink: &Sink,
    found: &mut Found,
) -> anyhow::Result<()> {
    let sinks = [sink];
    course
        .hold(PER_SECOND, bench.effort.lasting(2), &sinks, 1.0)
        .await?;
    let held = course
        .hold(PER_SECOND, bench.effort.lasting(20), &sinks, 1.0)
        .await?;
    found
        .p99
        .push(millis(&held.ledger.accept_to_arrival(|_| true), 0.99));
    found.idle.push(idle(site, bench.effort.lasting(20)).await?);
    Ok(())
}

/// What Postgres uses of one core, in per cent, while nothing is sent.
async fn idle(site: &Site, length: Duration) -> anyhow::Result<f64> {
    let watched = site.watched();
    let before = Snapshot::take(&watched);
    tokio::time::sleep(length).await;
    let used = before.since(&watched);
    let used = used.into_iter().find(|(name, _)| *name == POSTGRES);
    let (_, used) = used.context("Postgres is watched")?;
    Ok(100.0 * used.as_secs_f64() / length.as_secs_f64())
}
