//! Ordering keys that wait: receivers refuse every second one, and the next attempt is due in a day.

use std::time::{Duration, Instant};

use e2e::{Answer, Organization, Receiver, Verdict, Webhook, World, until_within};
use serde_json::{Value, json};

use crate::machine::process::processor_time;
use crate::report::{Outcome, Report, Tried, p50, p99};
use crate::stage::Stage;
use crate::trial::SETTLE;

/// Pause between two events of the other customer.
const PAUSE: Duration = Duration::from_millis(20);

/// A time that is so short that twice as long is as good.
const SHORT: Duration = Duration::from_millis(5);

/// What Postgres may use of a core for keys of which none is due, in per cent.
const IDLE: f64 = 5.0;

/// What is seen before the keys wait, and then while they do.
struct Seen {
    /// Of the other customer, from the 202 to the arrival.
    times: Vec<Duration>,
    /// Of a core, in per cent, while nothing is sent.
    idle: f64,
}

/// One customer's endpoints, each with two deliveries of each of many keys, beside another customer's ordered endpoint.
pub(crate) async fn waiting(stage: &Stage) -> Tried {
    let (endpoints, keys) = (stage.pick(80, 4), stage.pick(600, 20));
    let setup = stage.setup().worker_env("CIRCUIT_FAILURES", "1000000");
    let mut world = setup.start().await;
    let started = Instant::now();
    let (waiting, other) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    let ordered = json!({"ordered": true});
    world.endpoint_with(&other, &receiver, ordered).await;
    let before = see(stage, &world, &other, &receiver).await?;

    let refusing = world.receiver().await;
    refusing.answer(|webhook| Answer::status(if waits(webhook) { 500 } else { 204 }));
    // One receiver answers all of them, and every first attempt is to be answered.
    let in_a_day = json!({
        "ordered": true,
        "timeout_ms": 30_000,
        "max_in_flight": 2,
        "retry": {"initial_seconds": 86_400, "max_seconds": 86_400},
    });
    for _ in 0..endpoints {
        world.endpoint_with(&waiting, &refusing, in_a_day.clone()).await;
    }
    for number in 0..2 * keys {
        send(&world, &waiting, number % keys).await;
    }
    // Half of the keys wait, with two deliveries each.
    until_pending(&world, endpoints * keys).await;
    let meanwhile = see(stage, &world, &other, &receiver).await?;
    sqlx::query("update endpoints set status = 'disabled' where org_id = $1")
        .bind(waiting.id)
        .execute(world.database())
        .await?;
    world.finish().await;
    Ok(Outcome::Ran(judge(stage, started, &before, &meanwhile)))
}

fn judge(stage: &Stage, started: Instant, before: &Seen, meanwhile: &Seen) -> Report {
    let mut report = Report::new(started.elapsed(), Verdict::default());
    for (when, seen) in [("before", before), ("meanwhile", meanwhile)] {
        let [middle, worst] = [p50(seen.times.clone()), p99(seen.times.clone())];
        report.note(format!(
            "{when}: another customer's p50 {middle:?}, p99 {worst:?}, Postgres {:.1} % of a core when idle",
            seen.idle
        ));
    }
    if !stage.quick {
        let bound = 2 * p99(before.times.clone()).max(SHORT);
        report.at_most("p99 meanwhile", p99(meanwhile.times.clone()), bound);
        let more = meanwhile.idle - before.idle;
        report.at_most("% of a core for keys that wait", more, IDLE);
    }
    report
}

async fn see(
    stage: &Stage,
    world: &World,
    organization: &Organization,
    receiver: &Receiver,
) -> anyhow::Result<Seen> {
    let length = stage.pick(Duration::from_secs(20), Duration::from_secs(2));
    tidy_up(world).await?;
    let times = arrivals(world, organization, receiver, length).await;
    // What these events leave to be done is no cost of keys that wait either.
    tidy_up(world).await?;
    let idle = idle(world, length).await?;
    Ok(Seen { times, idle })
}

/// Has Postgres do at once what it otherwise does some time after rows were written: autovacuum finds nothing then, and the
/// next checkpoint little.
async fn tidy_up(world: &World) -> anyhow::Result<()> {
    for statement in ["vacuum (analyze)", "checkpoint"] {
        sqlx::query(statement).execute(world.database()).await?;
    }
    Ok(())
}

/// How long events of one organisation take to their ordered endpoint, each from its 202 to its arrival.
async fn arrivals(
    world: &World,
    organization: &Organization,
    receiver: &Receiver,
    length: Duration,
) -> Vec<Duration> {
    let mut accepted = Vec::new();
    let end = Instant::now() + length;
    while Instant::now() < end {
        let id = send(world, organization, accepted.len() % 50).await;
        accepted.push((id, Instant::now()));
        tokio::time::sleep(PAUSE).await;
    }
    let mut times = Vec::new();
    for (id, at) in accepted {
        let arrived = until_within(SETTLE, "the other customer's webhook", async || {
            let arrived = receiver.webhooks_of(id).first().map(|webhook| webhook.arrived);
            arrived.ok_or_else(|| id.to_string())
        });
        times.push(arrived.await.saturating_duration_since(at));
    }
    times
}

/// What Postgres uses of a core while nothing is sent, in per cent.
async fn idle(world: &World, length: Duration) -> anyhow::Result<f64> {
    let postgres = world.stack().postgres().pid().unwrap_or_default();
    let used = processor_time(postgres)?;
    tokio::time::sleep(length).await;
    let used = processor_time(postgres)?.saturating_sub(used);
    Ok(100.0 * used.as_secs_f64() / length.as_secs_f64())
}

async fn send(world: &World, organization: &Organization, key: usize) -> shared::domain::id::EventId {
    let event = json!({"type": "a", "data": {"key": key}, "ordering_key": format!("key-{key}")});
    let sent = world
        .producer(organization)
        .post_event(event.to_string())
        .send()
        .await;
    e2e::accepted(sent.expect("ingest-api answers")).await
}

/// Every second key does.
fn waits(webhook: &Webhook) -> bool {
    let data: Value = serde_json::from_str(webhook.parse().data.get()).expect("it is what was sent");
    data["key"].as_u64().is_some_and(|key| key % 2 == 1)
}

async fn until_pending(world: &World, count: usize) {
    until_within(SETTLE, "all keys to wait", async || {
        let query = "select count(*) filter (where status = 'pending'), count(*) filter (where last_outcome = 'status')
                     from deliveries";
        let row: Result<(i64, i64), _> = sqlx::query_as(query).fetch_one(world.database()).await;
        let (pending, refused) = row.map_err(|error| error.to_string())?;
        let (pending, refused) = (usize::try_from(pending), usize::try_from(refused));
        if (pending, refused) == (Ok(count), Ok(count / 2)) {
            Ok(())
        } else {
            Err(format!("{pending:?} pending, {refused:?} refused"))
        }
    })
    .await;
}
