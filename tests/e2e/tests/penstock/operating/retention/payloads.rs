//! Payloads that go before their events.

use super::{disabled_endpoint, keep_payloads_for_a_week, old_event, until_payload_is_gone};
use crate::setup;

#[tokio::test]
async fn payloads_go_after_their_organisations_retention_and_not_before_they_are_delivered() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    let others_endpoint = disabled_endpoint(&mut world, &other).await;
    keep_payloads_for_a_week(&world, &organization).await;
    let delivered = old_event(&world, &organization, endpoint, 10, "delivered").await;
    let kept = [
        old_event(&world, &organization, endpoint, 10, "pending").await,
        old_event(&world, &organization, endpoint, 6, "delivered").await,
        old_event(&world, &other, others_endpoint, 10, "delivered").await,
    ];
    let answered = sqlx::query(
        "update deliveries set attempts = 2, last_attempt = 2, last_started_at = now(), last_duration_ms = 1,
                               last_response_body = 'x' where event_id = $1",
    );
    answered.bind(delivered).execute(world.database()).await.unwrap();
    world.stack_mut().add_worker().await.unwrap();
    until_payload_is_gone(&world, delivered).await;
    let body = "select count(response_body) from attempt_history where event_id = $1";
    let body: i64 = sqlx::query_scalar(body)
        .bind(delivered)
        .fetch_one(world.database())
        .await
        .unwrap();
    assert_eq!(body, 0);
    assert_eq!(world.count("select count(expunged_at) from events").await, 1);
    for kept in kept {
        assert_eq!(world.stored_data(kept).await, [b"[1]"]);
    }
    world.finish().await;
}

#[tokio::test]
async fn events_whose_payloads_are_removed_are_not_read_again_and_those_that_are_stored_late_are() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    keep_payloads_for_a_week(&world, &organization).await;
    let first = old_event(&world, &organization, endpoint, 12, "delivered").await;
    let pending = old_event(&world, &organization, endpoint, 9, "pending").await;
    world.execute("update events set stored_at = accepted_at").await;
    world.stack_mut().add_worker().await.unwrap();
    let noted = "select count(*) from payload_removals r join events e on e.accepted_at >= r.removed_before";
    world.until_count_is("what is left to be noted", noted, 1).await;
    assert_eq!(world.stored_data(first).await, [b""]);
    assert_eq!(world.stored_data(pending).await, [b"[1]"]);

    // Only who reads the first one again removes this payload.
    world
        .execute(format!(
            "update events set data = '[1]', expunged_at = null where id = '{first}';
             update deliveries set status = 'delivered', next_attempt_at = null, finished_at = now()"
        ))
        .await;
    world.restart_worker().await;
    until_payload_is_gone(&world, pending).await;
    let late = old_event(&world, &organization, endpoint, 11, "delivered").await;
    world.restart_worker().await;
    until_payload_is_gone(&world, late).await;
    assert_eq!(world.stored_data(first).await, [b"[1]"]);
    world.finish().await;
}
