//! Removals beside replays: what is being made pending again keeps its event and its payload.

use e2e::{Setup, World, until};
use shared::domain::id::EventId;
use sqlx::postgres::PgTransaction;

use super::{disabled_endpoint, keep_payloads_for_a_week, old_event, until_payload_is_gone};
use crate::faults::held_up::until_waits;
use crate::setup;

/// With all partitions, and no worker.
async fn prepared(setup: Setup) -> World {
    let mut world = setup.start().await;
    world
        .stack_mut()
        .worker_mut(0)
        .kill()
        .await
        .expect("the worker runs");
    world
}

/// As a replay holds an event's row.
async fn hold(world: &World, id: EventId) -> PgTransaction<'static> {
    let mut replay = world.database().begin().await.expect("Postgres runs");
    let event = sqlx::query("select from events where id = $1 for share").bind(id);
    event.execute(&mut *replay).await.expect("Postgres runs");
    replay
}

#[tokio::test]
async fn the_payload_of_an_event_that_is_being_replayed_stays() {
    let mut world = prepared(setup()).await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    keep_payloads_for_a_week(&world, &organization).await;
    let replayed = old_event(&world, &organization, endpoint, 10, "delivered").await;
    let other = old_event(&world, &organization, endpoint, 9, "delivered").await;
    let mut replay = hold(&world, replayed).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    until_waits(&world, "delivery-worker").await;
    let pending = "update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null
                   where event_id = $1";
    let pending = sqlx::query(pending).bind(replayed);
    pending.execute(&mut *replay).await.unwrap();
    replay.commit().await.unwrap();
    until_payload_is_gone(&world, other).await;
    assert_eq!(world.stored_data(replayed).await, [b"[1]"]);
    world.finish().await;
}

#[tokio::test]
async fn an_old_event_that_is_being_sent_to_one_more_endpoint_stays() {
    let mut world = prepared(setup().worker_env("RETENTION", "10days")).await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    let another = disabled_endpoint(&mut world, &organization).await;
    let replayed = old_event(&world, &organization, endpoint, 21, "delivered").await;
    let other = old_event(&world, &organization, endpoint, 20, "delivered").await;
    let mut replay = hold(&world, replayed).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    until_waits(&world, "delivery-worker").await;
    let add = "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at)
               select org_id, id, $2, accepted_at, now() from events where id = $1";
    let add = sqlx::query(add).bind(replayed).bind(another.id);
    add.execute(&mut *replay).await.unwrap();
    replay.commit().await.unwrap();
    until("the other event to be gone", async || {
        match world.stored_data(other).await.len() {
            0 => Ok(()),
            rows => Err(rows.to_string()),
        }
    })
    .await;
    assert_eq!(world.stored_data(replayed).await, [b"[1]"]);
    assert_eq!(world.deliveries_of(replayed).await.len(), 2);
    world.finish().await;
}
