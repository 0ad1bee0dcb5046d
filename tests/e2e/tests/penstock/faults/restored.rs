//! A database that was restored while a worker ran: events go to the endpoints that it holds now.

use e2e::Event;

use crate::setup;

/// Keeps what a backup would hold of the endpoints.
const BACK_UP: &str = "create table saved as select endpoints.*, count.version as count
                       from endpoints, endpoint_version count";

/// Puts it back, as a restore does: without the triggers that count changes.
const RESTORE: &str = "do $$ begin
    set local session_replication_role = replica;
    update endpoints set deleted_at = saved.deleted_at, status = saved.status, version = saved.version,
                         secret = saved.secret, updated_at = saved.updated_at
    from saved where saved.id = endpoints.id;
    update endpoint_version set version = (select min(count) from saved);
end $$";

#[tokio::test]
async fn an_endpoint_that_a_restore_brought_back_gets_what_is_sent_from_then_on() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    world.execute(BACK_UP).await;
    let path = world.url(&format!("/v1/endpoints/{}", endpoint.id));
    let deletion = world.http().delete(path).bearer_auth(&organization.key);
    assert_eq!(deletion.send().await.unwrap().status(), 204);
    let producer = world.producer(&organization);
    // Once this is stored, the worker knows of the deletion.
    let before = producer.send(&Event::new("a", "1")).await;
    world.until_event_is_stored(before).await;

    world.execute(RESTORE).await;
    let after = producer.send(&Event::new("a", "2")).await;
    world.until_delivery_is(after, "delivered").await;
    let arrived: Vec<_> = receiver.webhooks().iter().map(|webhook| webhook.id).collect();
    assert_eq!(arrived, [after]);
    world.finish().await;
}
