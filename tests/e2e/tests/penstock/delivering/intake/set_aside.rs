//! What is set aside says whose it is, where its bytes say so.

use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer};
use e2e::{Organization, World, new_event};
use futures_util::StreamExt as _;
use serde::Serialize;
use serde_json::json;
use shared::domain::event::Event;
use shared::domain::id::OrgId;
use shared::wire::frame::{self, EncodedEvent};
use shared::wire::stream;
use sqlx::FromRow;

use crate::setup;

/// How often workers give a frame of another version back.
const TRIES: usize = 4;

/// How long the workers' consumer waits for acknowledgements here.
const ACK_WAIT: Duration = Duration::from_secs(2);

/// A row of the table.
#[derive(Debug, PartialEq, Eq, FromRow)]
struct SetAside {
    position: i32,
    org_id: Option<OrgId>,
    tenant: Option<String>,
    bytes: Vec<u8>,
}

impl SetAside {
    fn of(position: i32, owner: Option<(&Organization, Option<&str>)>, bytes: impl Into<Vec<u8>>) -> Self {
        let tenant = owner.and_then(|(_, tenant)| tenant);
        Self {
            position,
            org_id: owner.map(|(organization, _)| organization.id),
            tenant: tenant.map(str::to_owned),
            bytes: bytes.into(),
        }
    }
}

/// Empties the quarantine.
async fn take_out(world: &World) -> Vec<SetAside> {
    let query = "with gone as (delete from quarantine returning *)
                 select position, org_id, tenant, bytes from gone order by position, org_id, tenant nulls first";
    let rows = sqlx::query_as(query).fetch_all(world.database()).await;
    rows.expect("Postgres runs")
}

/// An event that a later release may write, and this one cannot read.
#[derive(Serialize)]
struct Later<'a> {
    org: OrgId,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    payload: &'a str,
}

fn later(organization: &Organization, tenant: Option<&str>) -> Vec<u8> {
    let later = Later {
        org: organization.id,
        tenant,
        payload: "1",
    };
    rmp_serde::to_vec_named(&later).expect("it can be encoded")
}

#[tokio::test]
async fn an_event_that_is_set_aside_says_whose_it_is_unless_its_bytes_do_not() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let (one, two) = (world.organization().await, world.organization().await);
    let unstorable = Event {
        tenant: Some("acme"),
        ..new_event(one.id, "a\0", "1")
    };
    let unstorable = rmp_serde::to_vec_named(&unstorable).expect("it can be encoded");
    let (of_tenant, of_none) = (later(&one, Some("globex")), later(&two, None));
    let events = [&*unstorable, &of_tenant, &of_none, b"\xc1"];
    world.publish_frame(frame::pack(events.into_iter())).await;
    world.publish_frame(b"\xc1 is no frame".as_slice().into()).await;
    world.streams_are_drained().await;
    let expected = [
        SetAside::of(-1, None, b"\xc1 is no frame"),
        SetAside::of(0, Some((&one, Some("acme"))), unstorable),
        SetAside::of(1, Some((&one, Some("globex"))), of_tenant),
        SetAside::of(2, Some((&two, None)), of_none),
        SetAside::of(3, None, b"\xc1"),
    ];
    assert_eq!(take_out(&world).await, expected);
    world.finish().await;
}

/// Ordering keys stand in an index, and ingest-api lets none through that is too long for it.
#[tokio::test]
async fn an_event_that_is_too_large_for_an_index_is_set_aside_and_its_neighbour_is_delivered() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let ordered = json!({"ordered": true});
    world.endpoint_with(&organization, &receiver, ordered).await;
    // Postgres compresses what repeats itself.
    let key = (0..200_u32).map(|number| blake3::hash(&number.to_be_bytes()).to_string());
    let key: String = key.collect();
    let too_large = Event {
        ordering_key: Some(&key),
        ..new_event(organization.id, "a", "1")
    };
    let neighbour = new_event(organization.id, "a", "2");
    world.publish_events(&[too_large, neighbour]).await;
    world.until_deliveries_are(1, "delivered").await;
    world.streams_are_drained().await;
    let reason = sqlx::query_scalar("select reason from quarantine").fetch_one(world.database());
    let reason: String = reason.await.expect("something is set aside");
    assert!(reason.contains("index row"), "{reason}");
    let bytes = rmp_serde::to_vec_named(&too_large).expect("it can be encoded");
    let expected = [SetAside::of(0, Some((&organization, None)), bytes)];
    assert_eq!(take_out(&world).await, expected);
    world.finish().await;
}

/// Gives the frame in the stream back, as workers do that cannot read it.
async fn give_back(world: &World) {
    let jetstream = world.jetstream().await;
    let config = stream::consumer(ACK_WAIT);
    let consumer = jetstream.create_consumer_on_stream(config, stream::name(0));
    let consumer: consumer::PullConsumer = consumer.await.expect("it is the workers' own");
    let mut messages = consumer.messages().await.expect("nats-server runs");
    for _ in 0..TRIES {
        let message = messages.next().await.expect("it goes on");
        let message = message.expect("the frame is there");
        message
            .ack_with(AckKind::Nak(None))
            .await
            .expect("nats-server runs");
    }
}

#[tokio::test]
async fn a_frame_of_a_later_release_is_set_aside_as_one_frame_for_each_owner() {
    let ack_wait = format!("{}s", ACK_WAIT.as_secs());
    let mut world = setup().worker_env("INTAKE_ACK_WAIT", &ack_wait).start().await;
    world.tolerate("set aside in quarantine");
    let mut organizations = [world.organization().await, world.organization().await];
    organizations.sort_by_key(|organization| organization.id);
    let [one, two] = &organizations;
    let event = |organization: &Organization, tenant, data| Event {
        tenant,
        ..new_event(organization.id, "a", data)
    };
    let (a, b) = (event(one, Some("acme"), "1"), event(one, None, "2"));
    let (c, d) = (event(two, None, "3"), event(one, Some("acme"), "4"));
    let frame_of = |events: &[Event<'_>]| {
        let events: Vec<_> = events.iter().map(EncodedEvent::new).collect();
        frame::encode(events.iter())
    };
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    world
        .publish_frame_of("of a later release", frame_of(&[a, b, c, d]))
        .await;
    give_back(&world).await;
    world.stack_mut().worker_mut(0).start().await.expect("it starts");
    world.streams_are_drained().await;
    let expected = [
        SetAside::of(-1, Some((one, None)), frame_of(&[b])),
        SetAside::of(-1, Some((one, Some("acme"))), frame_of(&[a, d])),
        SetAside::of(-1, Some((two, None)), frame_of(&[c])),
    ];
    assert_eq!(take_out(&world).await, expected);
    world.finish().await;
}
