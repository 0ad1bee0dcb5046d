//! A stream at its byte limit.

use std::time::{Duration, Instant};

use e2e::Manners;

use super::nats::refusals_are_polite;
use crate::report::{Outcome, Tried, p99};
use crate::stage::Stage;
use crate::trial::{Trial, times_to_accept};

/// How soon events must be accepted again when workers drain the stream.
const RESUMES: Duration = Duration::from_secs(5);

/// No worker runs until the stream is full and has been so for some seconds.
pub(crate) async fn full(stage: &Stage) -> Tried {
    let setup = stage.setup().replicas(2, 0);
    let limit = stage.pick("8388608", "1048576");
    let setup = setup.ingest_env("EVENT_STREAM_MAX_BYTES", limit);
    let mut trial = Trial::start(setup, Manners::default()).await;
    let flow = trial.flow(stage).await;
    flow.is_refused().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    trial.stack_mut().add_worker().await?;
    let draining = Instant::now();
    trial.stack_mut().add_worker().await?;
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let resumed = times_to_accept(&answers, &[draining], trial.replicas());
    let mut report = trial.end(&answers).await;
    report.at_most("resumed after", p99(resumed), stage.bound(RESUMES));
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}
