//! A single nats-server that is killed, hangs, or has no room on its disk.

use std::time::{Duration, Instant};

use anyhow::ensure;
use e2e::{Answered, Manners, NatsOptions, Signal};

use crate::faults::Moments;
use crate::machine::disk::{Disk, SCARCE};
use crate::machine::require_root;
use crate::report::{Outcome, Report, Tried, p99};
use crate::stage::Stage;
use crate::trial::{Trial, failures, times_to_accept, without_retry_after};

/// How soon events must be accepted again after a kill.
const ACCEPTS_AGAIN: Duration = Duration::from_secs(5);

/// How soon every request must be answered while nats-server hangs: `PUBLISH_TIMEOUT` and a little.
const ANSWERS: Duration = Duration::from_millis(2_500);

/// How soon after its disk is full every replica must say that NATS stores nothing, and after which time nobody waits any more.
const NAMED: Duration = Duration::from_secs(20);
const NAMED_AT_LAST: Duration = Duration::from_secs(120);

/// What a replica logs of it.
const WEDGED: &str = "NATS answers and stores nothing";

/// SIGKILL 20 times in 60 s; it is started again at once.
pub(crate) async fn kill(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let mut trial = trial.with_keys();
    let flow = trial.flow(stage).await;
    let mut moments = Moments::every(Duration::from_secs(3));
    let mut kills = Vec::new();
    for _ in 0..stage.pick(20, 3) {
        moments.next().await;
        let nats = trial.stack_mut().nats_mut();
        kills.push(Instant::now());
        nats.kill().await?;
        nats.start().await?;
    }
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let again = times_to_accept(&answers, &kills, trial.replicas());
    let mut report = trial.end(&answers).await;
    report.at_most("p99 until accepted again", p99(again), stage.bound(ACCEPTS_AGAIN));
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

/// SIGSTOP for 10 s.
pub(crate) async fn freeze(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let mut trial = trial.with_keys();
    let flow = trial.flow(stage).await;
    trial.stack_mut().nats_mut().signal(Signal::SIGSTOP)?;
    let frozen = Instant::now();
    tokio::time::sleep(stage.pick(Duration::from_secs(10), Duration::from_secs(4))).await;
    let thawed = Instant::now();
    trial.stack_mut().nats_mut().signal(Signal::SIGCONT)?;
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let again = times_to_accept(&answers, &[thawed], trial.replicas());
    let slowest = answers.iter().map(|answer| answer.took).max();
    let wedged = trial.stack().services();
    let wedged = wedged.filter(|service| service.log().contains(WEDGED)).count();
    // A request that was sent just before the thaw may be accepted after it.
    let accepted = answers
        .iter()
        .filter(|answer| answer.is_accepted() && answer.sent > frozen && answer.sent + answer.took < thawed);
    let accepted = accepted.count();
    let mut report = trial.end(&answers).await;
    report.at_most(
        "slowest answer",
        slowest.unwrap_or_default(),
        stage.bound(ANSWERS),
    );
    report.at_most("until accepted again", p99(again), stage.bound(ACCEPTS_AGAIN));
    report.at_most("accepted while frozen", accepted, 0);
    report.at_most("said that it answers and stores nothing", wedged, 0);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

/// Its disk is full until every replica says that it stores nothing. When there is room again it is restarted.
pub(crate) async fn full_disk(stage: &Stage) -> Tried {
    let disk = match small_disk().await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let nats = NatsOptions {
        store: Some(disk.store().to_owned()),
        ..NatsOptions::default()
    };
    let mut trial = Trial::start(stage.setup().nats(nats), Manners::default()).await;
    trial.tolerate(WEDGED);
    let flow = trial.flow(stage).await;
    let named = until_named(&trial, &disk).await?;
    disk.make_room()?;
    flow.is_refused().await;
    let restarted = Instant::now();
    let nats = trial.stack_mut().nats_mut();
    nats.kill().await?;
    nats.start().await?;
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let again = times_to_accept(&answers, &[restarted], trial.replicas());
    let mut report = trial.end(&answers).await;
    report.at_most("named after", named, stage.bound(NAMED));
    report.at_most("until accepted again", p99(again), stage.bound(ACCEPTS_AGAIN));
    refusals_are_polite(&mut report, &answers);
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

async fn small_disk() -> Result<Disk, String> {
    require_root()?;
    Disk::mount("nats", SCARCE)
        .await
        .map_err(|error| format!("{error:#}"))
}

/// Keeps the disk full until every replica shows that NATS stores nothing, and returns how long that took.
async fn until_named(trial: &Trial, disk: &Disk) -> anyhow::Result<Duration> {
    let full = Instant::now();
    loop {
        disk.fill().await?;
        let mut named = 0;
        for index in 0..trial.replicas() {
            let wedged = trial
                .gauge(trial.stack().ingest(index), "penstock_nats_wedged")
                .await;
            named += usize::from(wedged.is_some_and(|wedged| wedged >= 1.0));
        }
        if named == trial.replicas() {
            return Ok(full.elapsed());
        }
        ensure!(
            full.elapsed() < NAMED_AT_LAST,
            "{named} replicas say that it stores nothing"
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Whoever is not answered 202 is answered 503, and told when to try again.
pub(crate) fn refusals_are_polite(report: &mut Report, answers: &[Answered]) {
    report.at_most("failed otherwise than 503", failures(answers).len(), 0);
    report.at_most("503 without Retry-After", without_retry_after(answers), 0);
}
