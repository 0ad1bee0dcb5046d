//! How events come out of the streams, and where they go.

mod consumers;
mod early;
mod held_long;
mod set_aside;
mod turns;
mod written_once;

use e2e::{Event, World, new_event};
use serde_json::json;
use shared::domain::event::{self, OPERATIONAL_TYPES};
use shared::wire::stream;
use sqlx::FromRow;

use crate::setup;

#[tokio::test]
async fn an_event_for_one_endpoint_goes_nowhere_else() {
    let mut world = setup().start().await;
    let (organization, stranger) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    let other = world.endpoint(&organization, &receiver).await;
    let target = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["order.*"]}))
        .await;
    let event = |org_id, data| event::Event {
        only_to: Some(target.id),
        ..new_event(org_id, "endpoint.test", data)
    };
    let events = [
        event(organization.id, "1"),
        event(stranger.id, "2"),
        new_event(organization.id, "endpoint.test", "3"),
    ];
    world.publish_events(&events).await;
    world.until_deliveries_are(2, "delivered").await;
    let mut arrived: Vec<_> = receiver
        .webhooks()
        .iter()
        .map(|webhook| (webhook.endpoint, webhook.parse().data.get().to_owned()))
        .collect();
    arrived.sort_by(|one, two| one.1.cmp(&two.1));
    assert_eq!(arrived, [(target.id, "1".to_owned()), (other.id, "3".to_owned())]);
    world.finish().await;
}

#[tokio::test]
async fn operational_events_go_only_to_endpoints_that_ask_for_them() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for patterns in [json!([]), json!(["*"]), json!(["order.*"])] {
        world
            .endpoint_with(&organization, &receiver, json!({"event_types": patterns}))
            .await;
    }
    let asks = json!({"event_types": ["endpoint.*", "delivery.dead", "organization.*", "tenant.quota", "partition.*"]});
    let asks = world.endpoint_with(&organization, &receiver, asks).await;
    let events = OPERATIONAL_TYPES.map(|event_type| new_event(organization.id, event_type, "{}"));
    world.publish_events(&events).await;
    let count = i64::try_from(events.len()).unwrap();
    world.until_deliveries_are(count, "delivered").await;
    assert!(
        receiver
            .webhooks()
            .iter()
            .all(|webhook| webhook.endpoint == asks.id)
    );
    assert_eq!(receiver.count(), events.len());
    world.finish().await;
}

/// No event tells the worker that there is an endpoint, and it looks for news only now and then: so several times.
#[tokio::test]
async fn a_notice_reaches_an_endpoint_that_its_worker_has_not_met() {
    let mut world = setup().worker_env("CLAIM_INTERVAL", "1h").start().await;
    let receiver = world.receiver().await;
    for number in 1..=5 {
        let organization = world.organization().await;
        let asks = json!({"event_types": ["partition.kept"]});
        world.endpoint_with(&organization, &receiver, asks).await;
        let notice = sqlx::query(
            "insert into operational_events (id, org_id, type, endpoint_id, data)
             values (gen_random_uuid(), $1, 'partition.kept', gen_random_uuid(), '{}')",
        );
        let written = notice.bind(organization.id).execute(world.database()).await;
        written.expect("Postgres takes it");
        receiver.wait_for(number).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_payload_filter_picks_events_by_what_stands_in_them() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let query = sqlx::query("update endpoints set filter = $2 where id = $1").bind(endpoint.id);
    let filter = r#"{"/total":{"gte":100},"/test":{"exists":false}}"#;
    query.bind(filter).execute(world.database()).await.unwrap();
    let producer = world.producer(&organization);
    for data in [
        r#"{"total":99.9}"#,
        r#"{"total":100,"test":1}"#,
        "7",
        r#"{"total":1e2}"#,
    ] {
        producer.send(&Event::new("a", data)).await;
    }
    let text = producer.post("/v1/events").body(r#"{"total":100}"#);
    let text = text
        .header("content-type", "text/plain")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "a");
    assert_eq!(text.send().await.unwrap().status(), 202);
    world.settle().await;
    let arrived = receiver.webhooks();
    assert_eq!(arrived.len(), 1, "{arrived:?}");
    assert_eq!(arrived[0].parse().data.get(), r#"{"total":1e2}"#);
    world.finish().await;
}

/// The ordering columns of `deliveries`.
#[derive(Debug, PartialEq, Eq, FromRow)]
struct Place {
    ordering_key: Option<String>,
    stream: Option<String>,
    ordinal: Option<i64>,
}

#[tokio::test]
async fn a_delivery_to_an_ordered_endpoint_has_its_place_in_the_stream() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let ordered = json!({"ordered": true});
    let endpoint = world.endpoint_with(&organization, &receiver, ordered).await;
    let plain = world.endpoint(&organization, &receiver).await;
    let with_key = |data| event::Event {
        ordering_key: Some("k"),
        ..new_event(organization.id, "a", data)
    };
    world.publish_events(&[with_key("1")]).await;
    let events = [new_event(organization.id, "a", "2"), with_key("3")];
    world.publish_events(&events).await;
    world.until_deliveries_are(6, "delivered").await;
    let places = async |endpoint: e2e::Endpoint| -> Vec<Place> {
        let query = sqlx::query_as(
            "select d.ordering_key, d.stream, d.ordinal from deliveries d join events e on e.id = d.event_id
             where d.endpoint_id = $1 order by convert_from(e.data, 'UTF8')",
        );
        query.bind(endpoint.id).fetch_all(world.database()).await.unwrap()
    };
    let place = |ordinal| Place {
        ordering_key: Some("k".to_owned()),
        stream: Some(stream::name(0)),
        ordinal: Some(ordinal),
    };
    let none = || Place {
        ordering_key: None,
        stream: None,
        ordinal: None,
    };
    assert_eq!(
        places(endpoint).await,
        [place(1_024), none(), place(2 * 1_024 + 1)]
    );
    assert_eq!(places(plain).await, [none(), none(), none()]);
    let keyed = "select count(*) from events where ordering_key = 'k'";
    assert_eq!(world.count(keyed).await, 2);
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_set_aside_and_its_neighbours_are_delivered() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = |number| match number {
        // Postgres has no text with this character, and ingest-api lets none through.
        17 => new_event(organization.id, "a\0", "17"),
        _ => new_event(organization.id, "a", "1"),
    };
    let events: Vec<_> = (0..50).map(event).collect();
    // Of a stream of the same name that was deleted.
    let former = "insert into quarantine (stream, sequence, position, reason, bytes) values ($1, 1, 17, 'x', 'former')";
    let former = sqlx::query(former).bind(stream::name(0));
    former.execute(world.database()).await.unwrap();
    world.publish_events(&events).await;
    world.until_deliveries_are(49, "delivered").await;
    world.settle().await;
    let query = "with gone as (delete from quarantine returning *)
                 select stream, sequence, position, bytes from gone order by set_aside_at";
    let query = sqlx::query_as(query).fetch_all(world.database());
    let set_aside: Vec<(String, i64, i32, Vec<u8>)> = query.await.unwrap();
    let bytes = rmp_serde::to_vec_named(&events[17]).unwrap();
    let at_its_place = |bytes| (stream::name(0), 1, 17, bytes);
    assert_eq!(set_aside, [b"former".to_vec(), bytes].map(at_its_place));
    world.finish().await;
}

#[tokio::test]
async fn deliveries_to_an_endpoint_that_a_worker_cannot_use_wait_for_one_that_can() {
    let mut world = setup().start().await;
    world.tolerate("unusable endpoint");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let set_secret = async |secret: &[u8]| -> Vec<u8> {
        let query = sqlx::query_scalar(
            "update endpoints e set secret = $2 from endpoints before
             where e.id = $1 and before.id = $1 returning before.secret",
        );
        let query = query.bind(endpoint.id).bind(secret).fetch_one(world.database());
        query.await.expect("the endpoint is there")
    };
    let secret = set_secret(b"of another key").await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "pending").await;
    assert_eq!(receiver.count(), 0);
    set_secret(&secret).await;
    receiver.wait_for(1).await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_meets_an_endpoint_of_a_kind_of_a_later_release_stops_and_names_it() {
    let mut world = setup().start().await;
    let message = "`fax` is no endpoint kind that this release knows";
    world.tolerate(message);
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let set_kind = async |world: &World, kind: &str, url: Option<String>| {
        let query = sqlx::query("update endpoints set kind = $2, url = $3 where id = $1");
        let query = query.bind(endpoint.id).bind(kind).bind(url);
        query.execute(world.database()).await.expect("Postgres answers");
    };
    let url = sqlx::query_scalar("select url from endpoints where id = $1").bind(endpoint.id);
    let url = url.fetch_one(world.database()).await.expect("it is there");
    sqlx::query(
        "alter table endpoints drop constraint endpoints_kind_check, drop constraint endpoints_url_check",
    )
    .execute(world.database())
    .await
    .expect("Postgres answers");
    set_kind(&world, "fax", None).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    let ended = world.until_worker_ends().await;
    assert_eq!(ended.code(), Some(1));
    assert!(world.deliveries_of(id).await.is_empty());
    set_kind(&world, "push", Some(url)).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    receiver.wait_for(1).await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_cannot_read_a_filter_stores_nothing_without_it() {
    let mut world = setup().start().await;
    world.tolerate("the filter cannot be read");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let set_filter = async |world: &World, filter: Option<&str>| {
        let query = sqlx::query("update endpoints set filter = $2 where id = $1");
        let query = query.bind(endpoint.id).bind(filter).execute(world.database());
        query.await.expect("Postgres answers");
    };
    set_filter(&world, Some(r#"{"/a":{"of_a_later_release":1}}"#)).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    let ended = world.until_worker_ends().await;
    assert_eq!(ended.code(), Some(1));
    assert!(world.deliveries_of(id).await.is_empty());
    set_filter(&world, None).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    receiver.wait_for(1).await;
    world.finish().await;
}
