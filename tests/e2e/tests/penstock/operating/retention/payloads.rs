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
