//! A single nats-server that is killed, or hangs.

use std::time::{Duration, Instant};

use e2e::{Answered, Manners, Signal};

use super::Moments;
use crate::report::{Outcome, Report, Tried, p99};
use crate::stage::Stage;
use crate::trial::{Trial, failures, times_to_accept, without_retry_after};

/// How soon events must be accepted again after a kill.
const ACCEPTS_AGAIN: Duration = Duration::from_secs(5);

/// How soon every request must be answered while nats-server hangs: `PUBLISH_TIMEOUT` and a little.
const ANSWERS: Duration = Duration::from_millis(2_500);

/// SIGKILL 20 times in 60 s; it is started again at once.
pub(crate) async fn kill(stage: &Stage) -> Tried {
    let mut trial = Trial::start(stage.setup(), Manners::default()).await;
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
    let mut trial = Trial::start(stage.setup(), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let frozen = Instant::now();
    trial.stack_mut().nats_mut().signal(Signal::SIGSTOP)?;
    tokio::time::sleep(stage.pick(Duration::from_secs(10), Duration::from_secs(4))).await;
    trial.stack_mut().nats_mut().signal(Signal::SIGCONT)?;
    let thawed = Instant::now();
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let again = times_to_accept(&answers, &[thawed], trial.replicas());
    let slowest = answers.iter().map(|answer| answer.took).max();
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
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

/// Whoever is not answered 202 is answered 503, and told when to try again.
pub(crate) fn refusals_are_polite(report: &mut Report, answers: &[Answered]) {
    report.at_most("failed otherwise than 503", failures(answers).len(), 0);
    report.at_most("503 without Retry-After", without_retry_after(answers), 0);
}
