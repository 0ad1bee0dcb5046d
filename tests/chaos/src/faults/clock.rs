//! Clocks that are wrong by an hour, by libfaketime.

use std::path::Path;
use std::time::Duration;

use e2e::{Manners, Replica, Sink};

use super::nats::refusals_are_polite;
use crate::report::Outcome;
use crate::stage::Stage;
use crate::trial::Trial;

/// Where Debian's package `libfaketime` has its library.
const LIBRARIES: &[&str] = &[
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// One event in so many is refused once, so that there is something to try again.
const REFUSED_ONE_IN: u32 = 5;

/// One replica of each service is right, one is an hour ahead, one an hour behind.
pub(crate) async fn run(stage: &Stage) -> anyhow::Result<Outcome> {
    let Some(library) = LIBRARIES.iter().find(|library| Path::new(library).exists()) else {
        return Ok(Outcome::Skipped(
            "libfaketime is not installed (Debian: apt-get install libfaketime)".to_owned(),
        ));
    };
    let shifted = |by: &str| {
        let replica = Replica::default().with_env("LD_PRELOAD", library);
        let replica = replica.with_env("FAKETIME", by);
        // Only the wall clock is wrong.
        replica.with_env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    };
    let mut world = stage.setup().replicas(1, 1).start().await;
    for by in ["+1h", "-1h"] {
        world.stack_mut().add_ingest_with(shifted(by)).await?;
        world.stack_mut().add_worker_with(shifted(by)).await?;
    }
    let manners = Manners {
        refuse_one_in: REFUSED_ONE_IN,
        ..Manners::default()
    };
    let trial = Trial::assemble(world, Sink::start(manners).await, None).await;
    let flow = trial.flow(stage).await;
    tokio::time::sleep(stage.pick(Duration::from_secs(30), Duration::from_secs(4))).await;
    let answers = flow.stop().await;
    trial.settle().await;
    let (most, webhooks) = (trial.sink.most_arrivals(), trial.sink.count());
    let mut report = trial.end(&answers).await;
    // Each event, and once more each one that was refused: with some to spare for chance.
    let expected = report.verdict.accepted + report.verdict.accepted * 3 / 2 / (REFUSED_ONE_IN as usize);
    report.at_most("webhooks", webhooks, expected);
    report.at_most("most attempts", most, 2);
    let duplicated = report.verdict.duplicated.len();
    report.at_most("duplicates", duplicated, 0);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}
