//! Idempotency keys: forgotten by age, but not while their repeats may lie in a stream.

use e2e::{Event, World};
use shared::domain::id::{EventId, OrgId};
use sqlx::PgExecutor;

use crate::setup;

/// A key of an event that was accepted 25 hours and so many minutes ago.
async fn insert(database: impl PgExecutor<'_>, org: OrgId, id: EventId, minutes: i32) {
    let key = sqlx::query(
        "insert into idempotency_keys (org_id, event_id, accepted_at)
         values ($1, $2, clock_timestamp() - interval '25 hours' - $3 * interval '1 minute')",
    );
    let inserted = key.bind(org).bind(id).bind(minutes).execute(database).await;
    inserted.expect("Postgres runs");
}

async fn keys(world: &World) -> Vec<EventId> {
    let keys = sqlx::query_scalar("select event_id from idempotency_keys");
    keys.fetch_all(world.database()).await.expect("Postgres runs")
}

#[tokio::test]
async fn a_key_stays_while_a_frame_lies_in_the_stream_that_may_hold_its_repeat() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let frame = Event::new("a", "1").with_idempotency_key("in-the-stream");
    let in_stream = world.producer(&organization).send(&frame).await;
    // Nobody can store the frame until this ends.
    let mut held_up = world.database().begin().await.expect("Postgres runs");
    insert(&mut *held_up, organization.id, in_stream, 0).await;
    let id_of = |key| EventId::for_key(organization.id, None, key);
    // One was too old for a repeat when the frame arrived. The other is so only since then.
    insert(world.database(), organization.id, id_of("old"), 60).await;
    insert(world.database(), organization.id, id_of("young"), 0).await;

    world.stack_mut().add_worker().await.expect("it starts");
    let old =
        "select count(*) from idempotency_keys where accepted_at < now() - interval '25 hours 30 minutes'";
    world.until_count_is("the old key to be forgotten", old, 0).await;
    assert_eq!(keys(&world).await, [id_of("young")]);
    held_up.rollback().await.expect("Postgres runs");
    world.until_event_is_stored(in_stream).await;
    world.finish().await;
}
