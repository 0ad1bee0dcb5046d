//! Whichever way a delivery ends, the next one of its key follows.

use e2e::{Answer, Receiver, World, until};
use reqwest::Method;
use serde_json::json;
use shared::wire::frame;

use super::{one, ordered_endpoint, publish, read, send, taken};
use crate::calls::{request, status};
use crate::setup;

/// Waits until so many deliveries are parked behind others of their keys.
async fn until_parked(world: &World, count: i64) {
    let parked = "select count(*) from deliveries where parked and status = 'pending'";
    world
        .until_count_is("deliveries to be parked", parked, count)
        .await;
}

/// What a worker of another release, or ingest-api, may do to the row of one payload's delivery.
async fn change(world: &World, number: usize, change: &str) {
    let update = format!(
        "update deliveries d set {change} from events e
         where e.id = d.event_id and e.accepted_at = d.accepted_at
           and convert_from(e.data, 'UTF8')::json ->> 'number' = '{number}'"
    );
    let done = sqlx::query(sqlx::AssertSqlSafe(update))
        .execute(world.database())
        .await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

/// Four events of one key. The first delivery has failed and is tried again in an hour, and the others wait behind it.
async fn held_up() -> (World, Receiver) {
    let setup = setup().worker_env("RETRY_FACTOR", "1");
    let mut world = setup.worker_env("RETRY_INITIAL", "1h").start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    receiver.answer(|webhook| Answer::status(if read(webhook).1 == 0 { 500 } else { 204 }));
    for number in 0..4 {
        send(&world, &organization, "a", number).await;
    }
    until_parked(&world, 3).await;
    (world, receiver)
}

#[tokio::test]
async fn whoever_ends_a_delivery_the_next_one_of_its_key_follows_and_one_that_is_made_again_too() {
    let (world, receiver) = held_up().await;
    let ended = "status = 'dead', next_attempt_at = null, finished_at = now()";
    // One that is parked ends, and then the one that all wait for.
    change(&world, 1, ended).await;
    until_parked(&world, 2).await;
    change(&world, 0, &format!("lease_token = null, {ended}")).await;
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(taken(&receiver)["a"], [2, 3]);
    let again = "status = 'pending', next_attempt_at = now(), finished_at = null, revived_at = now()";
    change(&world, 1, again).await;
    world.until_deliveries_are(3, "delivered").await;
    assert_eq!(taken(&receiver)["a"], [2, 3, 1]);
    world.finish().await;
}

#[tokio::test]
async fn deliveries_at_the_same_place_of_two_streams_follow_one_another_and_hold_up_no_later_one() {
    let (world, receiver) = held_up().await;
    // As if it had come at the place of the one before it, in another stream.
    let place = "ordinal = (select ordinal from deliveries order by ordinal offset 1 limit 1)";
    change(&world, 2, place).await;
    let places = "select count(distinct ordinal) from deliveries";
    assert_eq!(world.count(places).await, 3);
    let ended = "status = 'dead', lease_token = null, next_attempt_at = null, finished_at = now()";
    change(&world, 0, ended).await;
    world.until_deliveries_are(3, "delivered").await;
    let taken = taken(&receiver);
    assert_eq!((taken["a"].len(), taken["a"].last()), (3, Some(&3)));
    world.finish().await;
}

#[tokio::test]
async fn the_next_one_of_a_key_waits_while_one_whose_payload_was_removed_may_still_be_sent() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"ordered": true, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    receiver.answer(|webhook| match read(webhook) {
        (key, 0) if key == "a" => Answer::status(204).held(),
        _ => Answer::status(204),
    });
    send(&world, &organization, "a", 0).await;
    let first = receiver.wait_for(1).await[0].id;
    send(&world, &organization, "a", 1).await;
    until_parked(&world, 1).await;
    let path = format!("/v1/events/{first}/data");
    let remove = request(&world, 0, Method::DELETE, &path, &organization.key);
    assert_eq!(status(remove).await, 204);
    // The lease of the first one lasts for longer than its timeout.
    let waiting = "select count(*) from deliveries
                   where status = 'pending' and lease_token is null and next_attempt_at > now() + interval '10 seconds'";
    assert_eq!(world.count(waiting).await, 1);
    // Whoever claims this one would have met the other too.
    send(&world, &organization, "b", 0).await;
    world.until_deliveries_are(1, "delivered").await;
    let arrived: Vec<_> = receiver.webhooks().iter().map(read).collect();
    assert_eq!(arrived, [("a".to_owned(), 0), ("b".to_owned(), 0)]);

    receiver.release();
    let over = "update deliveries set next_attempt_at = now() where status = 'pending'";
    world.execute(over).await;
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(receiver.webhooks().last().map(read), Some(("a".to_owned(), 1)));
    world.finish().await;
}

/// Waits until two more claims have failed: the second of them has begun in this time.
async fn until_claims_fail(world: &World) {
    let failed = || {
        let log = world.stack().worker(0).log();
        log.matches("cannot look for due deliveries").count()
    };
    let before = failed();
    until("two claims to fail", async || match failed() - before {
        0 | 1 => Err(format!("{before} before")),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test]
async fn a_claim_that_cannot_park_a_delivery_leases_none() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    world
        .execute(
            "create function trouble() returns trigger language plpgsql as
             $$ begin raise exception 'trouble' using errcode = 'XX000'; end $$;
             create trigger trouble before update on deliveries for each row
             when (new.parked and not old.parked) execute function trouble()",
        )
        .await;
    let events = [one("a", 0), one("a", 1)];
    publish(&world, &organization, frame::VERSION, &events).await;
    let floors = "select count(*) from stream_floors where stored_through > 0";
    world.until_count_is("the floor to be written", floors, 1).await;
    until_claims_fail(&world).await;
    let leased = "select count(*) from deliveries where lease_token is not null";
    assert_eq!(world.count(leased).await, 0);
    // Dropping the trigger would lock the table, and could deadlock with a worker.
    world
        .execute(
            "create or replace function trouble() returns trigger language plpgsql as
             $$ begin return new; end $$",
        )
        .await;
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(taken(&receiver)["a"], [0, 1]);
    world.finish().await;
}
