//! What came of an endpoint's attempts in the last 24 hours.

use e2e::{Answer, Event, Organization, STOP_DEADLINE, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EndpointId;

use crate::calls::{self, make, request, status, text};
use crate::console::portal::{self, tenant};
use crate::setup;

/// The token of a portal session with one capability.
async fn session(world: &World, organization: &Organization, uid: &str, capability: &str) -> String {
    let body = json!({"capabilities": [capability]});
    let made = portal::session(world, organization, uid, body).await;
    text(&made, "token").to_owned()
}

fn path(endpoint: EndpointId) -> String {
    format!("/v1/endpoints/{endpoint}/stats")
}

async fn stats(world: &World, organization: &Organization, endpoint: EndpointId) -> Value {
    calls::json(request(world, 0, Method::GET, &path(endpoint), &organization.key)).await
}

/// Attempts, and those of them that succeeded and failed, in all hours together.
fn sums(stats: &Value) -> [i64; 3] {
    let sum = &stats["last_24_hours"];
    ["attempts", "succeeded", "failed"].map(|name| sum[name].as_i64().expect("it is a number"))
}

/// The same of the hours, one by one.
fn added_up(stats: &Value) -> [i64; 3] {
    let hours = stats["hours"].as_array().expect("it is a list");
    let of = |name: &str| hours.iter().filter_map(|hour| hour[name].as_i64()).sum::<i64>();
    let (succeeded, failed) = (of("succeeded"), of("failed"));
    [succeeded + failed, succeeded, failed]
}

/// Lets all workers write what they have counted.
async fn stop_workers(world: &mut World, workers: usize) {
    for index in 0..workers {
        let stopped = world.stack_mut().worker_mut(index).terminate(STOP_DEADLINE).await;
        assert!(stopped.expect("it runs").success());
    }
}

#[tokio::test]
async fn attempts_of_the_last_24_hours_are_counted_and_shown_to_those_whose_they_are() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["acme", "globex"] {
        tenant(&world, &organization, uid).await;
    }
    receiver.answer(|webhook| {
        let fails = String::from_utf8_lossy(&webhook.body).contains("fail");
        Answer::status(if fails { 500 } else { 204 })
    });
    let once = json!({"tenant": "acme", "retry": {"attempts": 1}});
    let endpoint = world.endpoint_with(&organization, &receiver, once).await.id;
    for data in ["1", "2", "3", "\"fail\""] {
        let event = Event {
            tenant: Some("acme".to_owned()),
            ..Event::new("a", data)
        };
        let sent = world.producer(&organization).send(&event).await;
        let end = if data == "\"fail\"" { "dead" } else { "delivered" };
        world.until_delivery_is(sent, end).await;
    }
    let pull = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
    let pull = calls::json(pull.json(&json!({"kind": "pull"}))).await;
    stop_workers(&mut world, 1).await;

    let shown = stats(&world, &organization, endpoint).await;
    assert_eq!(
        (sums(&shown), added_up(&shown)),
        ([4, 3, 1], [4, 3, 1]),
        "{shown}"
    );
    let sum = &shown["last_24_hours"];
    assert_eq!(sum["success_ratio"], json!(0.75));
    let times = ["p50_ms", "p95_ms"].map(|name| sum[name].as_i64().expect("it is a number"));
    assert!(1 <= times[0] && times[0] <= times[1], "{sum}");
    let hours = shown["hours"].as_array().expect("it is a list");
    let begins: Vec<_> = hours.iter().map(|hour| text(hour, "hour")).collect();
    assert_eq!(begins.len(), 24);
    assert!(begins.is_sorted(), "{begins:?}");
    assert!(
        begins.iter().all(|hour| hour.ends_with(":00:00.000000Z")),
        "{begins:?}"
    );
    assert_eq!(
        (&hours[0]["succeeded"], &hours[0]["p95_ms"]),
        (&json!(0), &Value::Null)
    );

    // Nobody attempts what is fetched.
    let pulled = text(&pull, "id").parse().expect("an id");
    let shown = stats(&world, &organization, pulled).await;
    assert_eq!((sums(&shown), added_up(&shown)), ([0; 3], [0; 3]));
    assert_eq!(shown["last_24_hours"]["success_ratio"], Value::Null);
    assert_eq!(shown["last_24_hours"]["p50_ms"], Value::Null);

    for (uid, expected) in [("acme", 200_u16), ("globex", 404)] {
        let bound = json!({"name": uid, "scopes": ["manage"], "tenant": uid});
        let bound = make(&world, &organization.key, &bound).await;
        let viewing = session(&world, &organization, uid, "view").await;
        for key in [text(&bound, "key"), viewing.as_str()] {
            let asked = request(&world, 0, Method::GET, &path(endpoint), key);
            assert_eq!(status(asked).await, expected, "{uid}");
        }
    }
    let replaying = session(&world, &organization, "acme", "replay").await;
    let asked = request(&world, 0, Method::GET, &path(endpoint), &replaying);
    assert_eq!(status(asked).await, 403);
    world.finish().await;
}

#[tokio::test]
async fn workers_write_what_they_count_while_they_run_and_add_it_up() {
    let mut world = setup().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await.id;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    until("the first attempt to be written", async || {
        match sums(&stats(&world, &organization, endpoint).await) {
            [1, 1, 0] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    calls::send(&producer, 19).await;
    world.until_deliveries_are(20, "delivered").await;
    stop_workers(&mut world, 2).await;
    let shown = stats(&world, &organization, endpoint).await;
    assert_eq!((sums(&shown), added_up(&shown)), ([20, 20, 0], [20, 20, 0]));
    world.finish().await;
}

/// How many hours are stored of all endpoints.
async fn stored_hours(world: &World) -> i64 {
    let rows = sqlx::query_scalar("select count(*) from endpoint_hours");
    rows.fetch_one(world.database()).await.expect("Postgres runs")
}

async fn until_stored_hours_are(world: &World, count: i64) {
    until(
        &format!("{count} hours to be left"),
        async || match stored_hours(world).await {
            seen if seen == count => Ok(()),
            seen => Err(seen.to_string()),
        },
    )
    .await;
}

#[tokio::test]
async fn hours_are_removed_a_day_later_or_with_their_organization() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await.id;
    stop_workers(&mut world, 1).await;
    let rows = format!(
        "insert into endpoint_hours (endpoint_id, org_id, hour, succeeded, failed, durations)
         select '{endpoint}'::uuid, '{}'::uuid, date_trunc('hour', now(), 'UTC') - ago * interval '1 hour', ago, 1,
                '{{0,7,1}}'::integer[]
         from unnest(array[1, 2, 30]) as ago",
        organization.id
    );
    world.execute(rows).await;
    assert_eq!(stored_hours(&world).await, 3);
    assert_eq!(sums(&stats(&world, &organization, endpoint).await), [5, 3, 2]);
    let started = world.stack_mut().worker_mut(0).start().await;
    started.expect("Postgres answers");
    until_stored_hours_are(&world, 2).await;
    let path = format!("/admin/v1/organizations/{}", organization.id);
    let delete = request(&world, 0, Method::DELETE, &path, world.stack().admin_token());
    assert_eq!(status(delete).await, 202);
    until_stored_hours_are(&world, 0).await;
    world.finish().await;
}
