//! A nats-server that answers and stores nothing, because a write has failed, as on a full disk.

use std::time::{Duration, Instant};

use e2e::{Event, Producer, Signal, World, until};
use reqwest::StatusCode;
use tokio::process::Command;

use crate::operating::metrics::readiness::until_waiting_for;
use crate::setup;

const NAMED: &str = "NATS answers and stores nothing: restart it, see PenstockNatsWedged in the runbook";

const GAUGE: &str = "penstock_nats_wedged";

/// What the log says when it begins, and when it is over.
const LINES: [&str; 2] = [
    "NATS answers and stores nothing, as after its disk was full",
    "NATS stores events again",
];

/// As shipped.
const PUBLISH_TIMEOUT: &str = "2s";

/// Longer than it takes to say of a server that it stores nothing.
const LONG: Duration = Duration::from_secs(13);

/// Sets how large files nats-server may write, as `prlimit` reads it. Writes beyond that fail.
async fn limit_files(world: &World, limit: &str) {
    let pid = world.stack().nats().pid().expect("nats-server runs");
    let (pid, limit) = (format!("--pid={pid}"), format!("--fsize={limit}"));
    let limited = Command::new("prlimit").args([pid, limit]).status().await;
    assert!(limited.expect("prlimit can be run").success());
}

async fn is_refused(producer: &Producer) {
    let answer = producer.try_send(&Event::new("a", "1")).await;
    let status = answer.expect("ingest-api answers").status();
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_nats_that_stores_nothing_is_named_until_it_was_restarted() {
    let setup = setup().replicas(1, 0);
    let mut world = setup.ingest_env("PUBLISH_TIMEOUT", PUBLISH_TIMEOUT).start().await;
    world.tolerate(LINES[0]);
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    assert_eq!(world.gauge(world.stack().ingest(0), GAUGE).await, Some(0.0));

    limit_files(&world, "0:").await;
    is_refused(&producer).await;
    until_waiting_for(&world, world.stack().ingest(0), &[NAMED]).await;
    assert_eq!(world.gauge(world.stack().ingest(0), GAUGE).await, Some(1.0));
    limit_files(&world, "unlimited:").await;
    is_refused(&producer).await;
    until_waiting_for(&world, world.stack().ingest(0), &[NAMED]).await;

    world.stack_mut().nats_mut().kill().await.unwrap();
    world.stack_mut().nats_mut().start().await.unwrap();
    // Nobody sends anything meanwhile.
    until_waiting_for(&world, world.stack().ingest(0), &[]).await;
    assert_eq!(world.gauge(world.stack().ingest(0), GAUGE).await, Some(0.0));
    producer.send(&Event::new("a", "2")).await;
    until("both lines to be written", async || {
        let log = world.stack().ingest(0).log();
        let missing = LINES.into_iter().find(|line| !log.contains(line));
        missing.map_or(Ok(()), |line| Err(line.to_owned()))
    })
    .await;
    let log = world.stack().ingest(0).log();
    assert_eq!(LINES.map(|line| log.matches(line).count()), [1, 1]);
    world.stack_mut().add_worker().await.expect("a worker starts");
    receiver.wait_for(2).await;
    world.finish().await;
}

#[tokio::test]
async fn a_nats_that_hangs_is_away_and_not_one_that_stores_nothing() {
    let setup = setup().ingest_env("PUBLISH_TIMEOUT", PUBLISH_TIMEOUT);
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    world.stack_mut().nats_mut().signal(Signal::SIGSTOP).unwrap();
    let hung = Instant::now();
    while hung.elapsed() < LONG {
        is_refused(&producer).await;
        assert_eq!(world.gauge(world.stack().ingest(0), GAUGE).await, Some(0.0));
    }
    until_waiting_for(&world, world.stack().ingest(0), &["NATS connection"]).await;
    world.stack_mut().nats_mut().signal(Signal::SIGCONT).unwrap();
    until_waiting_for(&world, world.stack().ingest(0), &[]).await;
    producer.send(&Event::new("a", "2")).await;
    let log = world.stack().ingest(0).log();
    assert!(!log.contains(LINES[0]), "{log}");
    world.finish().await;
}
