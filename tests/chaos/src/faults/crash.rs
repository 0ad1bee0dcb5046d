//! A worker that dies at each of its effects, right after it or right before the next one.

use std::time::Duration;

use clap::ValueEnum as _;
use delivery_worker::crash::Point;
use e2e::{Manners, Replica, STOP_DEADLINE, until};

use crate::faults::servers::nats::refusals_are_polite;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{REPEATED, SETTLE, Trial};

/// At which passes of a point the worker dies: at once, and in the middle of its work.
const PASSES: &[u32] = &[1, 7];

/// Each worker that dies leaves the rest to another one, which is stopped before the next one starts.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let manners = Manners {
        // So that there are deliveries to claim.
        refuse_one_in: 2,
        delay: Duration::from_millis(5),
    };
    let setup = stage.setup().replicas(1, 1);
    // Each death holds deliveries back for as long as an attempt may take, and a little longer.
    let timeout_ms = stage.pick(5_000, 1_000);
    let trial = Trial::start_with(setup, manners, timeout_ms).await;
    let mut trial = trial.with_keys();
    let mut answers = Vec::new();
    let (mut deaths, passes) = (0, stage.pick(PASSES, &PASSES[..1]));
    for point in Point::value_variants() {
        for pass in passes {
            trial.stack_mut().worker_mut(0).terminate(STOP_DEADLINE).await?;
            let dying = Replica::default().with_env("CRASH_AT", &format!("{}:{pass}", point.name()));
            trial.stack_mut().add_worker_with(dying).await?;
            deaths += 1;
            let flow = trial.flow(stage).await;
            until(&format!("a worker to die at {}", point.name()), async || {
                let worker = trial.stack_mut().worker_mut(deaths);
                let ended = worker.try_wait().map_err(|error| error.to_string())?;
                ended.map(drop).ok_or_else(|| "it runs".to_owned())
            })
            .await;
            answers.extend(flow.stop().await);
            trial.stack_mut().worker_mut(0).start().await?;
            trial.settle_with(SETTLE).await;
        }
    }
    let mut report = trial.end(&answers).await;
    let duplicated = report.verdict.duplicated.len();
    report.note(format!("{deaths} deaths"));
    report.at_most("duplicates", duplicated, deaths * REPEATED);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}
