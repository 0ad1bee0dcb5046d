//! Hostile filters, payloads and batches beside a customer who knows nothing of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use e2e::{Event, Manners, Organization, hostile_filter, hostile_payload, until_within};
use serde_json::{Value, json};
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;

use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// How often the workers' health is asked for.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How long any of them may take to answer.
const HEALTH_BOUND: Duration = Duration::from_secs(1);

/// How much later than before the healthy customer's webhooks may come.
const LATER: f64 = 0.25;

/// The attackers.
struct Attack {
    /// Endpoints with filters of 3.8 KB.
    filters: Organization,
    /// Endpoints that nobody pulls from, for a batch of a thousand small events.
    fans: Organization,
    endpoints: usize,
}

pub(crate) async fn flood(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let attack = Attack::prepare(&trial, stage).await?;
    let flow = trial.flow(stage).await;
    let calm = UnixMicros::now();
    tokio::time::sleep(Duration::from_secs(stage.pick(15, 3))).await;
    let attacked = UnixMicros::now();
    let stop = Arc::new(AtomicBool::new(false));
    let probes = probe(&trial, stop.clone());
    let hostile = async {
        let hostile = attack.run(&trial, stage).await;
        // Also when it failed: the probes would never end.
        stop.store(true, Ordering::Relaxed);
        hostile
    };
    let (slowest, hostile) = tokio::join!(probes, hostile);
    let (ids, took) = hostile?;
    let over = UnixMicros::now();
    let answers = flow.stop().await;
    // The latest webhooks count too.
    until_delivered(&trial).await;
    let before = latencies(&trial, calm, attacked).await?;
    let during = latencies(&trial, attacked, over).await?;
    let undecided = undecided(&trial, &ids, attack.endpoints).await?;
    // Nobody pulls them, so they would stay.
    sqlx::query(
        "update deliveries set status = 'dead', next_attempt_at = null, finished_at = now() where pull",
    )
    .execute(trial.database())
    .await?;
    let mut report = trial.end(&answers).await;
    report.note(format!("webhooks before {before}"));
    report.note(format!("meanwhile {during}"));
    report.note(format!(
        "all of the attack stored {took:.1?} after its last event"
    ));
    report.at_most("hostile events not decided", undecided, 0);
    report.at_most("slowest /healthz", slowest, stage.bound(HEALTH_BOUND));
    if !stage.quick {
        report.at_most("p99 later by (s)", during.p99 - before.p99, LATER);
    }
    Ok(Outcome::Ran(report))
}

impl Attack {
    async fn prepare(trial: &Trial, stage: &Stage) -> anyhow::Result<Self> {
        let attack = Self {
            filters: trial.organization().await,
            fans: trial.organization().await,
            endpoints: stage.pick(40, 10),
        };
        for number in 0..attack.endpoints {
            let filter = hostile_filter(number);
            pull_endpoint(trial, &attack.filters, json!({"kind": "pull", "filter": filter})).await?;
        }
        for _ in 0..stage.pick(400, 20) {
            pull_endpoint(trial, &attack.fans, json!({"kind": "pull"})).await?;
        }
        Ok(attack)
    }

    /// Sends what is hostile and waits until it is stored. Returns the events with the long payloads, and how long the last
    /// took.
    async fn run(&self, trial: &Trial, stage: &Stage) -> anyhow::Result<(Vec<EventId>, Duration)> {
        let mut ids = Vec::new();
        let event = Event::new("a", hostile_payload());
        let events: Vec<_> = (0..1_000)
            .map(|number| json!({"type": "a", "data": number}))
            .collect();
        let batch = trial.producer(&self.fans).post("/v1/events/batch");
        batch.json(&events).send().await?.error_for_status()?;
        for _ in 0..stage.pick(40, 5) {
            ids.push(trial.producer(&self.filters).send(&event).await);
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let sent = Instant::now();
        let fans = i64::from(stage.pick(400_000, 20_000));
        // Not the streams: the healthy customer's events go on.
        until_within(SETTLE, "the attack to be stored", async || {
            let stored = deliveries(trial, &self.fans).await;
            let stored = stored.map_err(|error| error.to_string())?;
            let undecided = undecided(trial, &ids, self.endpoints).await;
            match (stored, undecided.map_err(|error| error.to_string())?) {
                (stored, 0) if stored == fans => Ok(()),
                (stored, undecided) => Err(format!("{stored} of {fans}, {undecided} events undecided")),
            }
        })
        .await;
        Ok((ids, sent.elapsed()))
    }
}

/// Waits until the healthy customer's webhooks have arrived.
async fn until_delivered(trial: &Trial) {
    trial.streams_are_drained().await;
    until_within(SETTLE, "the healthy customer's webhooks", async || {
        let query = "select count(*) from deliveries where org_id = $1 and status = 'pending'";
        let query = sqlx::query_scalar(query).bind(trial.organization.id.as_uuid());
        let pending: i64 = query
            .fetch_one(trial.database())
            .await
            .map_err(|error| error.to_string())?;
        if pending == 0 {
            Ok(())
        } else {
            Err(format!("{pending} pending"))
        }
    })
    .await;
}

/// How many deliveries of an organisation are stored.
async fn deliveries(trial: &Trial, organization: &Organization) -> anyhow::Result<i64> {
    let query = sqlx::query_scalar("select count(*) from deliveries where org_id = $1");
    let query = query.bind(organization.id.as_uuid());
    Ok(query.fetch_one(trial.database()).await?)
}

async fn pull_endpoint(trial: &Trial, organization: &Organization, body: Value) -> anyhow::Result<()> {
    let request = trial.http().post(trial.url("/v1/endpoints"));
    let request = request.bearer_auth(&organization.key).json(&body);
    request.send().await?.error_for_status()?;
    Ok(())
}

/// Asks all workers for their health until the stop. Returns the longest time that one took.
async fn probe(trial: &Trial, stop: Arc<AtomicBool>) -> Duration {
    let services = trial.stack().services();
    let urls: Vec<_> = services
        .map(|service| service.metrics_url().replace("/metrics", "/healthz"))
        .collect();
    let mut slowest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        for url in &urls {
            let asked = Instant::now();
            let answer = trial.http().get(url).send().await;
            let is_good = answer.is_ok_and(|answer| answer.status().is_success());
            slowest = slowest.max(if is_good { asked.elapsed() } else { Duration::MAX });
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    slowest
}

/// Seconds from an event's acceptance to its first attempt.
#[derive(Clone, Copy)]
struct Latencies {
    p50: f64,
    p95: f64,
    p99: f64,
}

impl std::fmt::Display for Latencies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p95, p99] = [self.p50, self.p95, self.p99].map(|seconds| seconds * 1_000.0);
        write!(f, "p50 {p50:.0} ms, p95 {p95:.0} ms, p99 {p99:.0} ms")
    }
}

/// Those of the healthy customer's events of a time.
async fn latencies(trial: &Trial, from: UnixMicros, until: UnixMicros) -> anyhow::Result<Latencies> {
    let query = "select coalesce(percentile_cont(array[0.5, 0.95, 0.99]) within group (
                     order by extract(epoch from started_at - accepted_at)::float8
                 ), '{0,0,0}')
                 from attempt_history where number = 1 and org_id = $1 and accepted_at between $2 and $3";
    let times: Vec<f64> = sqlx::query_scalar(query)
        .bind(trial.organization.id.as_uuid())
        .bind(from.to_date_time())
        .bind(until.to_date_time())
        .fetch_one(trial.database())
        .await?;
    anyhow::ensure!(times.len() == 3, "three percentiles were asked for");
    Ok(Latencies {
        p50: times[0],
        p95: times[1],
        p99: times[2],
    })
}

/// How many of some events are not stored with a delivery for each endpoint.
async fn undecided(trial: &Trial, ids: &[EventId], endpoints: usize) -> anyhow::Result<usize> {
    let ids: Vec<_> = ids.iter().map(|id| id.as_uuid()).collect();
    let query = "select count(*) from (
                     select event_id from deliveries where event_id = any($1) group by 1 having count(*) = $2
                 ) decided";
    let decided: i64 = sqlx::query_scalar(query)
        .bind(&ids)
        .bind(i64::try_from(endpoints)?)
        .fetch_one(trial.database())
        .await?;
    Ok(ids.len() - usize::try_from(decided)?)
}
