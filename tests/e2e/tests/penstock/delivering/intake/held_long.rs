//! Events that have begun, and cannot be stored for a while: they are sent once all the same.

use e2e::{Organization, World, new_event};

use super::early::{nothing_is_stored, start};

/// Adds endpoints that want events of type `b`, and that nobody pulls from.
async fn add_endpoints(world: &World, organization: &Organization, count: i32) {
    let query = sqlx::query(
        "insert into endpoints (id, org_id, kind, event_types, secret, max_in_flight, timeout_ms)
         select gen_random_uuid(), $1, 'pull', '{b}', '', 1, 1 from generate_series(1, $2)",
    );
    let query = query.bind(organization.id).bind(count);
    query.execute(world.database()).await.expect("Postgres answers");
}

/// Its frame has more deliveries then than one statement writes, and is stored apart from the others of its batch.
#[tokio::test]
async fn an_event_that_has_begun_is_sent_once_when_its_frame_gets_too_many_deliveries() {
    let (world, organization, receiver) = start().await;
    add_endpoints(&world, &organization, 3_000).await;
    let held = nothing_is_stored(&world).await;
    let events = ["a", "b"].map(|event_type| new_event(organization.id, event_type, "1"));
    world.publish_events(&events).await;
    // The other one has deliveries that cannot begin.
    receiver.wait_for(1).await;
    add_endpoints(&world, &organization, 1_000).await;
    world.until_worker_logs("cannot store events, trying again").await;
    held.rollback().await.unwrap();
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(receiver.count(), 2);
    world.finish().await;
}
