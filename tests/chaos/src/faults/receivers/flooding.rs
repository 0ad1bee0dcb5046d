//! Receivers that flood the worker.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::{Event, Manners, Organization, RawReceiver, Tls};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::types::time::OffsetDateTime;

use crate::faults::receivers::floods::{FLOODS, Flood};
use crate::faults::receivers::{ENDED, certificate, until_ended};
use crate::machine::process::processor_time;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// Deliveries to one flooding endpoint at once.
const AT_ONCE: usize = 64;

/// How long an attempt at a flooding endpoint may take.
const TIMEOUT_MS: u64 = 5_000;

/// What a good neighbour's p99 is measured against is never less than this: below, it is the machine that is measured.
const SHORT: f64 = 0.020;

/// How much of a core the workers may use when nothing is to be done, in per cent.
const IDLE_CPU: f64 = 10.0;

/// Kinds of floods that begin at once, and how many deliveries of each.
type Wave = (&'static [Flood], usize);

/// Each kind of flood, with one delivery and then with many at once, beside a good endpoint of another organisation.
pub(crate) async fn flooding(stage: &Stage) -> Tried {
    let (_folder, tls) = certificate()?;
    // Of many floods at once none waits for a probe: how many have failed before the last of them begins is chance.
    let setup = stage
        .setup()
        .worker_env("SSL_CERT_FILE", tls.file())
        .worker_env("CIRCUIT_FAILURES", "1000000");
    let trial = Trial::start(setup, Manners::default()).await;
    let hostile = trial.world.organization().await;
    let _receivers = flooders(&trial, &hostile, &tls).await;
    let flow = trial.flow(stage).await;
    let pause = Duration::from_secs(stage.pick(10, 1));
    tokio::time::sleep(pause).await;
    let calm = now(&trial).await?;
    tokio::time::sleep(pause).await;
    let attacked = now(&trial).await?;
    let producer = trial.world.producer(&hostile);
    let (mut worst, mut sent) = ((0.0, String::new()), 0);
    for (floods, count) in waves(stage) {
        let from = now(&trial).await?;
        let names: Vec<_> = floods.iter().map(|flood| flood.name).collect();
        let all = names.iter().flat_map(|name| std::iter::repeat_n(*name, count));
        let events: Vec<_> = all.map(|name| Event::new(name, "1")).collect();
        join_all(events.iter().map(|event| producer.send(event))).await;
        sent += events.len();
        until_ended(&trial, &hostile, sent, stage.bound(ENDED)).await;
        tokio::time::sleep(pause / 5).await;
        // Nothing may be delivered yet of what came during a short flood.
        let p99 = p99(&trial, from, now(&trial).await?).await?.unwrap_or_default();
        if p99 > worst.0 {
            worst = (p99, format!("{} × {count}", names.join(", ")));
        }
    }
    let over = now(&trial).await?;
    let answers = flow.stop().await;
    // The latest webhooks count too.
    trial.settle().await;
    let before = p99(&trial, calm, attacked).await?;
    let before = before.context("nothing was delivered before")?;
    let during = p99(&trial, attacked, over).await?;
    let during = during.context("nothing was delivered meanwhile")?;
    let cpu = cpu(&trial, pause).await?;
    let mut report = trial.end(&answers).await;
    report.note(format!(
        "p99 before {before:.4} s, meanwhile {during:.4} s, worst {:.4} s with {}",
        worst.0, worst.1
    ));
    report.at_most("workers' CPU afterwards (%)", cpu, stage.pick(IDLE_CPU, 100.0));
    if !stage.quick && during > 1.1 * before.max(SHORT) {
        report
            .broken
            .push("p99 meanwhile is more than 10 % longer".to_owned());
    }
    Ok(Outcome::Ran(report))
}

/// One kind after the other, so that each is measured. A test measures none: one of each kind begins at once, and as many
/// deliveries as otherwise of one kind are shared by several.
fn waves(stage: &Stage) -> impl Iterator<Item = Wave> {
    let single = FLOODS.chunks(stage.pick(1, FLOODS.len()));
    let kinds = stage.pick(1, 4);
    let many = FLOODS.chunks(kinds);
    single
        .map(|floods| (floods, 1))
        .chain(many.map(move |floods| (floods, AT_ONCE / kinds)))
}

async fn flooders(trial: &Trial, hostile: &Organization, tls: &Tls) -> Vec<RawReceiver> {
    let mut receivers = Vec::new();
    for flood in FLOODS {
        let tls = tls.clone();
        let talk = move |stream| flood.talk(tls.clone(), stream);
        let receiver = RawReceiver::start("127.0.0.1:0", talk).await;
        let url = if flood.is_http2 {
            receiver.url().replace("http:", "https:")
        } else {
            receiver.url()
        };
        let fields = json!({"event_types": [flood.name], "max_in_flight": AT_ONCE, "timeout_ms": TIMEOUT_MS,
                            "retry": {"attempts": 1}});
        trial.world.endpoint_at(hostile, &url, fields).await;
        receivers.push(receiver);
    }
    receivers
}

async fn now(trial: &Trial) -> anyhow::Result<OffsetDateTime> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(trial.database())
        .await?)
}

/// Seconds from acceptance to delivery of the good organisation's events that were accepted in this time, of those that are
/// delivered.
async fn p99(trial: &Trial, from: OffsetDateTime, until: OffsetDateTime) -> anyhow::Result<Option<f64>> {
    let query = "select percentile_disc(0.99) within group (order by
                     extract(epoch from a.started_at - e.accepted_at)::float8 + a.duration_ms / 1000.0::float8)
                 from attempt_history a join events e on e.id = a.event_id
                 where e.org_id = $1 and e.accepted_at between $2 and $3";
    let query = sqlx::query_scalar(query)
        .bind(trial.organization.id)
        .bind(from)
        .bind(until);
    Ok(query.fetch_one(trial.database()).await?)
}

/// Per cent of a core that all workers use.
async fn cpu(trial: &Trial, during: Duration) -> anyhow::Result<f64> {
    let used = || {
        let workers = trial
            .stack()
            .services()
            .filter(|service| service.name().starts_with("delivery-worker"));
        let pids = workers.filter_map(|service| service.pid());
        pids.map(processor_time).sum::<anyhow::Result<Duration>>()
    };
    let (before, since) = (used()?, Instant::now());
    tokio::time::sleep(during).await;
    Ok(100.0 * used()?.saturating_sub(before).div_duration_f64(since.elapsed()))
}
