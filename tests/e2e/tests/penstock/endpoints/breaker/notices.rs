//! What owners are told of.

use e2e::{Answer, Event, Webhook, is_time, until, with_wrong_clock};
use serde_json::json;
use shared::domain::id::EventId;

use super::{quick, raw_receiver, told, told_in_order, until_status_is, watcher};
use crate::calls::send;
use crate::{setup, skip};

#[tokio::test]
async fn owners_are_told_that_an_endpoint_will_be_disabled_once_for_each_time_that_it_fails() {
    let mut world = quick("2", "100ms")
        .worker_env("DISABLE_AFTER", "14s")
        .worker_env("RETRY_ATTEMPTS", "100")
        .replicas(1, 2)
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let watcher = watcher(&mut world, &organization).await;
    send(&world.producer(&organization), 20).await;
    until_status_is(&world, endpoint, "disabled").await;
    let notices = told_in_order(&watcher.wait_for(3).await);
    let types: Vec<_> = notices.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        types,
        ["endpoint.failing", "endpoint.disabling_soon", "endpoint.disabled"]
    );
    let (failing, soon) = (&notices[0].1, &notices[1].1);
    let until = &soon["disabled_from"];
    assert_eq!(
        *soon,
        json!({"endpoint_id": endpoint.id, "failing_since": failing["failing_since"], "disabled_from": until,
               "reason": "status"})
    );
    assert!(until.as_str() > failing["failing_since"].as_str(), "{soon}");
    assert!(until.as_str().is_some_and(is_time), "{soon}");
    let mut warnings = 0.0;
    for index in 0..2 {
        let warned = world
            .gauge(
                world.stack().worker(index),
                "penstock_endpoints_disabling_soon_total",
            )
            .await;
        warnings += warned.unwrap_or_default();
    }
    assert!((0.9..1.1).contains(&warnings), "{warnings}");

    let enable = sqlx::query("update endpoints set status = 'enabled' where id = $1").bind(endpoint.id);
    enable.execute(world.database()).await.unwrap();
    let notices = told_in_order(&watcher.wait_for(6).await);
    let types: Vec<_> = notices[3..].iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(
        types,
        ["endpoint.failing", "endpoint.disabling_soon", "endpoint.disabled"]
    );
    world.finish().await;
}

#[tokio::test]
async fn owners_are_told_of_a_dead_delivery_once_and_never_of_one_that_told_them_something() {
    let mut world = setup()
        .worker_env("RETRY_ATTEMPTS", "2")
        .replicas(1, 2)
        .start()
        .await;
    let organization = world.organization().await;
    let (receiver, deaf, everything) = (
        world.receiver().await,
        world.receiver().await,
        world.receiver().await,
    );
    receiver.answer(|_| Answer::status(500));
    deaf.answer(|_| Answer::status(500));
    let endpoint = world
        .endpoint_with(
            &organization,
            &receiver,
            json!({"event_types": ["a", "delivery.dead"]}),
        )
        .await;
    let types = json!({"event_types": ["delivery.dead"]});
    let deaf_endpoint = world.endpoint_with(&organization, &deaf, types).await;
    world.endpoint(&organization, &everything).await;
    let watcher = watcher(&mut world, &organization).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    watcher.wait_for(1).await;
    until("the deaf endpoint's delivery to be dead", async || {
        let deliveries = world.deliveries().await;
        let of_deaf = deliveries
            .iter()
            .find(|delivery| delivery.endpoint_id == deaf_endpoint.id);
        match of_deaf {
            Some(delivery) if delivery.status == "dead" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.settle().await;
    let told: Vec<_> = watcher.webhooks().iter().map(told).collect();
    let expected = json!({
        "endpoint_id": endpoint.id, "event_id": id, "event_type": "a", "attempts": 2, "reason": "status"
    });
    assert_eq!(told, [("delivery.dead".to_owned(), expected)]);
    assert_eq!(world.count("select count(*) from events").await, 2);
    // It is read back by its id, as any other event.
    let producer = world
        .http()
        .get(world.url(&format!("/v1/events/{}", watcher.webhooks()[0].id)));
    let answer = producer.bearer_auth(&organization.key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let about_itself = |webhook: &Webhook| webhook.parse().r#type != "a";
    assert!(!receiver.webhooks().iter().any(about_itself));
    assert_eq!(
        everything.count(),
        1,
        "an endpoint that names no types gets what producers send"
    );
    world.finish().await;
}

#[tokio::test]
async fn owners_are_told_of_an_endpoint_whose_receiver_is_gone() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(410));
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let watcher = watcher(&mut world, &organization).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    let webhooks = watcher.wait_for(1).await;
    let expected = json!({"endpoint_id": endpoint.id, "reason": "the receiver answered 410 Gone"});
    assert_eq!(told(&webhooks[0]), ("endpoint.disabled".to_owned(), expected));
    until_status_is(&world, endpoint, "disabled").await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_worker_whose_clock_is_ahead_tells_owners_is_dated_by_postgres() {
    let Some(ahead) = with_wrong_clock("+30d") else {
        skip("libfaketime is not installed (Debian: apt-get install libfaketime)");
        return;
    };
    let mut world = setup().replicas(1, 0).start().await;
    world.stack_mut().add_worker_with(ahead).await.unwrap();
    let organization = world.organization().await;
    // These do not look at the time in a signature, which is wrong too.
    let gone = raw_receiver("410 Gone").await;
    let watcher = raw_receiver("204 No Content").await;
    for (receiver, event_type) in [(&gone, "a"), (&watcher, "endpoint.disabled")] {
        let settings = json!({"event_types": [event_type]});
        world.endpoint_at(&organization, &receiver.url(), settings).await;
    }
    world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_deliveries_are(1, "delivered").await;
    let query = "select id, accepted_at > now() from events where type = 'endpoint.disabled'";
    let query = sqlx::query_as(query).fetch_one(world.database());
    let (id, is_ahead): (EventId, bool) = query.await.unwrap();
    assert!(!is_ahead);
    let url = world.url(&format!("/v1/events/{id}"));
    let answer = world.http().get(url).bearer_auth(&organization.key).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    world.finish().await;
}
