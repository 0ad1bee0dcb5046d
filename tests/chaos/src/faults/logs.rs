//! Logs that nobody reads: of one replica of each service the reader has gone away, of the other one it stands still.

use std::io::{PipeReader, Write as _, pipe};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::{Answered, Manners, STOP_DEADLINE};
use serde_json::Value;

use crate::faults::servers::nats::refusals_are_polite;
use crate::report::{Outcome, Report, Tried, p99};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial, times, times_to_accept};

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

/// A time that is so short that twice as long is as good.
const SHORT: Duration = Duration::from_millis(20);

/// How soon events must be accepted again after a restart of nats-server, and a process must end that is asked to.
const ACCEPTS_AGAIN: Duration = Duration::from_secs(5);
const ENDS: Duration = Duration::from_secs(5);

/// How many times as many messages as before nats-server may get, or as this many a second if there were fewer: while a test's
/// machine stands still for a moment there are few.
const MESSAGES: f64 = 2.0;
const FEW: f64 = 100.0;
const FEW_IN_A_TEST: f64 = 500.0;

/// The load before, with logs like these, and after each of three restarts of nats-server; then every process is stopped.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let level = "debug,async_nats=warn";
    let setup = stage
        .setup()
        .ingest_env("RUST_LOG", level)
        .worker_env("RUST_LOG", level);
    let mut trial = Trial::start(setup, Manners::default()).await;
    let measured = measure(stage, &mut trial).await;
    let measured = measured.unwrap_or_else(|error| panic!("{error:#}"));
    let mut report = trial.end(&measured.answers).await;
    judge(stage, &mut report, &measured);
    Ok(Outcome::Ran(report))
}

/// What was seen.
struct Measured {
    answers: Vec<Answered>,
    /// The 99th percentile of answers before and with such logs.
    before: Duration,
    during: Duration,
    /// Messages a second to NATS, before and after its restarts.
    messages_before: f64,
    messages_after: f64,
    accepted_again: Duration,
    slowest_end: Duration,
}

async fn measure(stage: &Stage, trial: &mut Trial) -> anyhow::Result<Measured> {
    let span = stage.pick(Duration::from_secs(10), Duration::from_secs(3));
    let flow = trial.flow(stage).await;
    let calm = Instant::now();
    let messages_before = messages_each_second(trial, span).await?;
    let mut readers = Vec::new();
    for index in 0..2 {
        readers.extend(break_logs(trial, index).await?);
    }
    flow.is_accepted_by(trial.replicas()).await;
    let broken = Instant::now();
    tokio::time::sleep(span).await;
    let mut restarts = vec![Instant::now()];
    let mut messages_after = 0.0_f64;
    for _ in 0..stage.pick(3, 1) {
        restarts.push(Instant::now());
        trial.stack_mut().nats_mut().kill().await?;
        trial.stack_mut().nats_mut().start().await?;
        flow.is_accepted_by(trial.replicas()).await;
        messages_after = messages_after.max(messages_each_second(trial, span).await?);
    }
    let answers = flow.stop().await;
    trial.settle_with(SETTLE).await;
    let slowest_end = end_all(trial).await?;
    let again = times_to_accept(&answers, &restarts[1..], trial.replicas());
    drop(readers);
    Ok(Measured {
        before: p99(times(&answers, calm, calm + span)),
        during: p99(times(&answers, broken, restarts[0])),
        answers,
        messages_before,
        messages_after,
        accepted_again: p99(again),
        slowest_end,
    })
}

fn judge(stage: &Stage, report: &mut Report, measured: &Measured) {
    let (before, during) = (measured.before, measured.during);
    report.note(format!("p99 before {before:?}, meanwhile {during:?}"));
    if !stage.quick && during > 2 * before.max(SHORT) {
        let broken = "p99 meanwhile is more than twice as long";
        report.broken.push(broken.to_owned());
    }
    let messages = measured.messages_before;
    report.note(format!("{messages:.0} messages a second to NATS before"));
    let bound = MESSAGES * messages.max(stage.pick(FEW, FEW_IN_A_TEST));
    report.at_most(
        "after its restarts",
        measured.messages_after.round(),
        bound.round(),
    );
    let again = measured.accepted_again;
    report.at_most("until accepted again", again, stage.bound(ACCEPTS_AGAIN));
    report.at_most("slowest end", measured.slowest_end, stage.bound(ENDS));
    refusals_are_polite(report, &measured.answers);
}

/// Starts a replica of each service again, with a log that nobody reads. What is returned keeps pipes open.
async fn break_logs(trial: &mut Trial, index: usize) -> anyhow::Result<Vec<PipeReader>> {
    let mut readers = Vec::new();
    for is_ingest in [true, false] {
        let (reader, mut writer) = pipe().context("there are no descriptors")?;
        if index == 0 {
            drop(reader);
        } else {
            writer.write_all(&vec![b'\n'; PIPE_BYTES])?;
            readers.push(reader);
        }
        let stack = trial.stack_mut();
        let service = if is_ingest {
            stack.ingest_mut(index)
        } else {
            stack.worker_mut(index)
        };
        service.terminate(STOP_DEADLINE).await?;
        service.send_output_to(writer);
        service.start().await?;
    }
    Ok(readers)
}

/// Asks every process to stop, and says how long the slowest took.
async fn end_all(trial: &mut Trial) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    for index in 0..2 {
        for is_ingest in [true, false] {
            let stack = trial.stack_mut();
            let service = if is_ingest {
                stack.ingest_mut(index)
            } else {
                stack.worker_mut(index)
            };
            let asked = Instant::now();
            let status = service.terminate(STOP_DEADLINE).await?;
            anyhow::ensure!(status.success(), "{} ended with {status}", service.name());
            slowest = slowest.max(asked.elapsed());
        }
    }
    Ok(slowest)
}

/// How many messages nats-server gets in a second.
async fn messages_each_second(trial: &Trial, span: Duration) -> anyhow::Result<f64> {
    let url = format!("{}/varz", trial.stack().nats().monitoring_url());
    let count = async || {
        let answer = trial.http().get(&url).send().await?.json::<Value>().await?;
        answer["in_msgs"].as_f64().context("it counts its messages")
    };
    let (before, begun) = (count().await?, Instant::now());
    tokio::time::sleep(span).await;
    Ok((count().await? - before) / begun.elapsed().as_secs_f64())
}
