//! Deliveries that nobody acknowledges in time.

use e2e::{Organization, Receiver, World, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Consumer, send};
use crate::calls::{self, request, status};
use crate::setup;

/// Changes what a consumer's endpoint keeps of its deliveries, and to whom it tells their end.
async fn limit(world: &World, consumer: &Consumer, retry: Value) {
    let path = format!("/v1/endpoints/{}", consumer.endpoint);
    let change = request(world, 0, Method::PATCH, &path, &consumer.key).json(&json!({"retry": retry}));
    assert_eq!(status(change).await, 200);
}

/// A receiver that is told of an organisation's dead deliveries.
async fn told_of_dead_deliveries(world: &mut World, organization: &Organization) -> Receiver {
    let receiver = world.receiver().await;
    let asks = json!({"event_types": ["delivery.dead"]});
    world.endpoint_with(organization, &receiver, asks).await;
    receiver
}

#[tokio::test]
async fn a_delivery_whose_leases_run_out_is_dead_when_its_attempts_are_used_up() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = told_of_dead_deliveries(&mut world, &organization).await;
    limit(&world, &consumer, json!({"attempts": 2})).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;

    let lease = json!({"lease_seconds": 1, "wait_seconds": 20});
    let first = consumer.pull(lease.clone()).await;
    let second = consumer.pull(lease).await;
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
    assert_eq!(world.until_delivery_is(id, "dead").await.attempts, 2);
    assert!(consumer.pull(json!({})).await.is_empty());
    assert_eq!(consumer.acknowledge(&second[0].lease).await, "expired");
    receiver.wait_for(1).await;
    let notice: Value = serde_json::from_slice(&receiver.webhooks()[0].body).unwrap();
    assert_eq!(
        notice["data"],
        json!({"endpoint_id": consumer.endpoint, "event_id": id, "event_type": "a", "attempts": 2, "reason": "unacknowledged"})
    );

    // What is made again has its attempts again.
    let again = request(
        &world,
        0,
        Method::POST,
        &format!("/v1/events/{id}/replay"),
        &organization.key,
    );
    assert_eq!(status(again).await, 202);
    let third = consumer.pull(json!({"wait_seconds": 20})).await;
    assert_eq!((third[0].event.id, third[0].attempt), (id, 3));
    assert_eq!(consumer.acknowledge(&third[0].lease).await, "acknowledged");
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_is_too_old_is_dead_while_nobody_pulls_and_not_while_it_is_leased() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (consumer, without_limit) = (
        Consumer::new(&world, &organization).await,
        Consumer::new(&world, &organization).await,
    );
    let leased = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(2).await;
    let held = consumer.pull(json!({"lease_seconds": 3600})).await;
    assert_eq!(held.len(), 1);
    let waiting = send(&world, &organization, "2").await;
    world.until_deliveries_are_stored(4).await;
    limit(&world, &consumer, json!({"max_age_seconds": 1})).await;

    let status_of = async |id, endpoint| {
        let deliveries = world.deliveries_of(id).await;
        let found = deliveries
            .into_iter()
            .find(|delivery| delivery.endpoint_id == endpoint);
        found.expect("the event has a delivery").status
    };
    until("the end of the delivery that waits", async || {
        match status_of(waiting, consumer.endpoint).await {
            dead if dead == "dead" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(status_of(leased, consumer.endpoint).await, "pending");
    assert_eq!(status_of(waiting, without_limit.endpoint).await, "pending");
    assert_eq!(consumer.acknowledge(&held[0].lease).await, "acknowledged");
    world.finish().await;
}

/// Makes all deliveries older than the limits of these tests.
const AGED: &str = "update deliveries set created_at = now() - interval '2 hours'";

/// Gives back what a lease holds, and returns what became of it.
async fn give_back(consumer: &Consumer, lease: &str) -> Value {
    let given_back = consumer.post("nack", &json!({"leases": [lease]}));
    calls::json(given_back).await["results"][0]["outcome"].clone()
}

#[tokio::test]
async fn a_delivery_that_is_given_back_too_old_is_dead_at_once() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = told_of_dead_deliveries(&mut world, &organization).await;
    limit(&world, &consumer, json!({"max_age_seconds": 3_600})).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;
    let held = consumer.pull(json!({"lease_seconds": 3_600})).await;
    world.execute(AGED).await;
    assert_eq!(give_back(&consumer, &held[0].lease).await, "dead");
    assert_eq!(world.until_delivery_is(id, "dead").await.attempts, 1);
    receiver.wait_for(1).await;
    let notice: Value = serde_json::from_slice(&receiver.webhooks()[0].body).unwrap();
    assert_eq!(notice["data"]["reason"], "rejected");
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_of_a_disabled_tenant_is_not_too_old_while_nobody_may_pull_it() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (consumer, other) = (
        Consumer::new(&world, &organization).await,
        Consumer::new(&world, &organization).await,
    );
    world
        .execute(format!(
            "update endpoints set tenant_enabled = false where id = '{}'",
            consumer.endpoint
        ))
        .await;
    // Both as they would be if the tenant had been disabled later.
    world
        .execute(format!(
            "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at, pull)
             select org_id, gen_random_uuid(), id, now(), now(), true from endpoints where org_id = '{}'",
            organization.id
        ))
        .await;
    for consumer in [&consumer, &other] {
        limit(&world, consumer, json!({"max_age_seconds": 1})).await;
    }
    // One round ends what is too old at all endpoints.
    world.until_deliveries_are(1, "dead").await;
    let pending = "select count(*) from deliveries d join endpoints e on e.id = d.endpoint_id
                   where d.status = 'pending' and not e.tenant_enabled";
    assert_eq!(world.count(pending).await, 1);
    world.execute("update endpoints set tenant_enabled = true").await;
    world.until_deliveries_are(2, "dead").await;
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_back_when_its_lease_ends() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;

    let first = consumer.pull(json!({"lease_seconds": 1})).await;
    assert_eq!(first.len(), 1);
    let second = consumer
        .pull(json!({"wait_seconds": 20, "lease_seconds": 1}))
        .await;
    assert_eq!((second[0].event.id, second[0].attempt), (id, 2));
    assert_eq!(consumer.acknowledge(&first[0].lease).await, "expired");
    assert_eq!(world.deliveries_of(id).await[0].status, "pending");

    // The lease ran out, but nobody else has leased the delivery since.
    until("the end of the second lease", async || {
        let due = sqlx::query_scalar("select next_attempt_at <= now() from deliveries");
        match due.fetch_one(world.database()).await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(consumer.acknowledge(&second[0].lease).await, "acknowledged");
    assert_eq!(
        consumer.acknowledge(&first[0].lease).await,
        "already_acknowledged"
    );
    let attempts = world.attempts_of(id).await;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [2], "the lease that ran out was the first");
    world.finish().await;
}
