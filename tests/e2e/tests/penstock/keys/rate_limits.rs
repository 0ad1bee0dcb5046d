//! One limit, however many replicas.

use std::time::{Duration, Instant};

use e2e::{Event, STOP_DEADLINE, World, until};
use futures_util::StreamExt as _;
use reqwest::{Method, Response, StatusCode};
use serde_json::json;

use crate::calls::{answer, request, tried};
use crate::setup;

/// Waits until every replica knows of all.
pub(crate) async fn until_together(world: &World, replicas: u32) {
    for index in 0..replicas as usize {
        until("the replicas to know each other", async || {
            match world.metric(index, "penstock_rate_limit_replicas").await {
                known if known == u64::from(replicas) => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
}

/// What replicas may admit together, and must when more is asked for: the limit, what came back since it was whole,
/// 3 %, and what was asked for in one exchange interval.
fn check_admitted(admitted: u32, limit: u32, requests: u32, time: Duration) {
    const EXCHANGE: f64 = 0.2;
    let (admitted, seconds) = (f64::from(admitted), time.as_secs_f64());
    let ideal = f64::from(limit) * (1.0 + seconds / 60.0);
    let slack = ideal * 0.03 + f64::from(requests) * EXCHANGE / seconds;
    println!(
        "{admitted} admitted of {requests} in {seconds:.1} s, ideally {ideal:.0}, give or take {slack:.0}"
    );
    assert!(
        (admitted - ideal).abs() <= slack,
        "{admitted} for {ideal}, give or take {slack}"
    );
}

async fn replicas_admit_one_limit_together(replicas: u32) {
    const LIMIT: u32 = 2_000;
    let world = setup().replicas(replicas as usize, 0).start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": LIMIT}))
        .await;
    until_together(&world, replicas).await;
    let start = Instant::now();
    let requests = (0..LIMIT * 3).map(|number| {
        let index = (number % replicas) as usize;
        tried(&world, index, &organization.key)
    });
    let answers: Vec<_> = futures_util::stream::iter(requests)
        .buffer_unordered(32)
        .collect()
        .await;
    let time = start.elapsed();
    let count = |status: StatusCode| {
        let count = answers.iter().filter(|answer| **answer == status).count();
        u32::try_from(count).expect("there are a few thousand")
    };
    let admitted = count(StatusCode::NOT_FOUND);
    assert_eq!(admitted + count(StatusCode::TOO_MANY_REQUESTS), LIMIT * 3);
    check_admitted(admitted, LIMIT, LIMIT * 3, time);
    world.finish().await;
}

#[tokio::test]
async fn one_replica_admits_the_limit() {
    replicas_admit_one_limit_together(1).await;
}

#[tokio::test]
async fn two_replicas_admit_the_limit_together() {
    replicas_admit_one_limit_together(2).await;
}

#[tokio::test]
async fn four_replicas_admit_the_limit_together() {
    replicas_admit_one_limit_together(4).await;
}

/// Uses requests up until one is refused.
async fn use_up(world: &World, index: usize, key: &str) -> u32 {
    for used in 0.. {
        if tried(world, index, key).await == 429 {
            return used;
        }
    }
    unreachable!("no limit is that high")
}

#[tokio::test]
async fn far_from_every_limit_replicas_tell_each_other_of_usage_once_a_second() {
    const SECONDS: u64 = 8;
    let world = setup().replicas(2, 0).start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": 100_000_000}))
        .await;
    until_together(&world, 2).await;
    let told = async || world.metric(0, "penstock_rate_limit_messages_sent_total").await;
    let (start, before) = (Instant::now(), told().await);
    while start.elapsed() < Duration::from_secs(SECONDS) {
        assert_eq!(tried(&world, 0, &organization.key).await, 404);
    }
    let (messages, seconds) = (told().await - before, start.elapsed().as_secs());
    assert!(
        (SECONDS / 2..=seconds + 2).contains(&messages),
        "{messages} in {seconds} s"
    );
    world.finish().await;
}

#[tokio::test]
async fn close_to_a_limit_replicas_tell_each_other_of_usage_several_times_a_second() {
    const LIMIT: u32 = 1_000;
    let world = setup().replicas(2, 0).start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": LIMIT}))
        .await;
    until_together(&world, 2).await;
    let requests = (0..LIMIT * 9 / 10).map(|_| tried(&world, 0, &organization.key));
    let answers: Vec<_> = futures_util::stream::iter(requests)
        .buffer_unordered(32)
        .collect()
        .await;
    assert!(answers.iter().all(|answer| *answer == StatusCode::NOT_FOUND));
    let told = async || world.metric(0, "penstock_rate_limit_messages_sent_total").await;
    let start = Instant::now();
    // One request alone is too small a share of the limit to be told of at once.
    for _ in 0..20 {
        let before = told().await;
        assert_eq!(tried(&world, 0, &organization.key).await, 404);
        until("the request to be told of", async || match told().await {
            now if now > before => Ok(()),
            now => Err(now.to_string()),
        })
        .await;
    }
    let time = start.elapsed();
    assert!(time < Duration::from_secs(15), "twenty messages in {time:?}");
    world.finish().await;
}

#[tokio::test]
async fn what_is_used_up_on_one_replica_is_used_up_on_the_others_and_after_a_restart() {
    const LIMIT: u32 = 600;
    let mut world = setup().replicas(2, 0).start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": LIMIT}))
        .await;
    until_together(&world, 2).await;
    let start = Instant::now();
    let used = use_up(&world, 0, &organization.key).await;
    let used = used + use_up(&world, 1, &organization.key).await;
    check_admitted(used, LIMIT, used, start.elapsed());

    let ingest = world.stack_mut().ingest_mut(1);
    assert!(ingest.terminate(STOP_DEADLINE).await.unwrap().success());
    until_together(&world, 1).await;
    // On the other replica, so that something is left to be told of.
    use_up(&world, 0, &organization.key).await;
    let used_up = Instant::now();
    world.stack_mut().ingest_mut(1).start().await.unwrap();
    until_together(&world, 2).await;
    let used = use_up(&world, 1, &organization.key).await;
    let back = f64::from(LIMIT) * used_up.elapsed().as_secs_f64() / 60.0;
    println!("{used} admitted after a restart, {back:.0} came back meanwhile");
    assert!(
        f64::from(used) <= back + f64::from(LIMIT) * 0.03,
        "{used} after the restart of one replica, {back} came back"
    );
    world.finish().await;
}

#[tokio::test]
async fn replicas_that_are_cut_off_admit_their_share() {
    const LIMIT: u32 = 60;
    let mut world = setup().replicas(2, 0).start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": LIMIT}))
        .await;
    until_together(&world, 2).await;
    for index in [0, 1] {
        assert_eq!(tried(&world, index, &organization.key).await, 404);
    }
    world.stack_mut().nats_mut().kill().await.unwrap();
    let mut used = 2;
    for index in [0, 1] {
        until("the replica to notice", async || {
            match world.metric(index, "penstock_rate_limit_cut_off").await {
                1 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
        let share = use_up(&world, index, &organization.key).await;
        assert!(share < LIMIT, "{share} at one of two");
        used += share;
    }
    // A minute gives the limit once more.
    assert!((LIMIT - 4..LIMIT * 3 / 2).contains(&used), "{used} of {LIMIT}");
    world.stack_mut().nats_mut().start().await.unwrap();
    until_together(&world, 2).await;
    world.finish().await;
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    let value = response.headers().get(name);
    value
        .unwrap_or_else(|| panic!("no {name} in {response:?}"))
        .to_str()
        .expect("our headers are ASCII")
}

/// `r` and `t` of the `RateLimit` header.
fn state(response: &Response) -> (u64, u64) {
    let text = header(response, "ratelimit");
    let numbers = text
        .strip_prefix("\"default\";r=")
        .and_then(|rest| rest.split_once(";t="))
        .and_then(|(r, t)| Some((r.parse().ok()?, t.parse().ok()?)));
    numbers.unwrap_or_else(|| panic!("{text} is not our form"))
}

#[tokio::test]
async fn a_batch_costs_its_number_of_events() {
    let world = setup().start().await;
    let organization = world
        .organization_with(&json!({"name": "x", "rate_limit_per_minute": 100}))
        .await;
    let batch = |count: usize| {
        let body = vec![Event::new("a", "1").body(); count].join("\n");
        let post = request(&world, 0, Method::POST, "/v1/events/batch", &organization.key);
        post.header("content-type", "application/x-ndjson").body(body)
    };
    let accepted = batch(60).send().await.unwrap();
    assert_eq!(accepted.status(), 202);
    let (remaining, _) = state(&accepted);
    assert!((40..60).contains(&remaining), "{remaining}");
    assert_eq!(header(&accepted, "ratelimit-policy"), r#""default";q=100;w=60"#);

    let refused = batch(60).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let (remaining, reset) = state(&refused);
    let retry_after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!(
        (39..60).contains(&remaining),
        "the refused batch cost {remaining}"
    );
    assert!(
        reset <= retry_after && (1..=13).contains(&retry_after),
        "{refused:?}"
    );
    insta::assert_snapshot!(answer(batch(101)).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: body","errors":[{"field":"body","detail":"costs 101 requests of a rate limit of 100 a minute: send it in parts"}]}
    "#);
    world.finish().await;
}
