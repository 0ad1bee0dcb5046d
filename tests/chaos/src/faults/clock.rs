//! Clocks that are wrong by an hour, by libfaketime.

use std::time::Duration;

use e2e::{Manners, Sink, with_wrong_clock};

use crate::faults::servers::nats::refusals_are_polite;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// One event in so many is refused once, so that there is something to try again.
const REFUSED_ONE_IN: u32 = 5;

/// One replica of each service is right, one is an hour ahead, one an hour behind.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let (Some(ahead), Some(behind)) = (with_wrong_clock("+1h"), with_wrong_clock("-1h")) else {
        return Ok(Outcome::Skipped(
            "libfaketime is not installed (Debian: apt-get install libfaketime)".to_owned(),
        ));
    };
    let mut world = stage.patient_setup().replicas(1, 1).start().await;
    for wrong in [ahead, behind] {
        world.stack_mut().add_ingest_with(wrong.clone()).await?;
        world.stack_mut().add_worker_with(wrong).await?;
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
