//! The live tail tells what is stored late, and says how much it does not tell.

use std::collections::HashSet;
use std::time::Duration;

use e2e::{Event, Organization, World, new_event, until_within};
use serde_json::{Value, json};
use shared::domain::clock::UnixMicros;
use shared::domain::event;
use shared::domain::id::EventId;

use super::portal::tenant;
use super::tail::Listener;
use crate::calls::text;
use crate::setup;
use crate::tenants::bound;

/// What comes behind the time that a look goes back to is counted when that time is over.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many events were told, and how many were counted and not told.
fn told_and_skipped(listener: &Listener) -> (u64, u64) {
    let told = listener.of("event").into_iter();
    let ids: Vec<_> = told.map(|event| text(event, "id")).collect();
    let different: HashSet<_> = ids.iter().collect();
    assert_eq!(different.len(), ids.len(), "an event was told twice");
    // An unknown number is one of attempts: of so many events at once not all are followed.
    let counts = listener.of("skipped").into_iter();
    let counts = counts.filter_map(|skipped| skipped["count"].as_u64());
    (ids.len() as u64, counts.sum())
}

/// Listens until each was told or counted this many events. All listen together: what nobody asks for is forgotten.
async fn until_known(world: &World, listeners: &mut [(&mut Listener, u64)]) {
    until_within(PATIENCE, "all events to be told or counted", async || {
        let mut missing = Vec::new();
        for (listener, count) in &mut *listeners {
            listener.listen(world).await;
            let (told, skipped) = told_and_skipped(listener);
            if told + skipped != *count {
                missing.push((told, skipped));
            }
        }
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?}"))
        }
    })
    .await;
}

/// Stores events. `columns` are when each, with the number `n`, was accepted and stored, and its tenant.
async fn store(world: &World, organization: &Organization, count: u32, columns: &str) {
    world
        .execute(format!(
            "insert into events (org_id, id, type, content_type, data, accepted_at, stored_at, tenant)
             select '{}', gen_random_uuid(), 'a', 'application/json', '1', {columns}
             from generate_series(1, {count}) as n",
            organization.id
        ))
        .await;
}

#[tokio::test]
async fn an_event_that_is_stored_long_after_newer_ones_is_told_with_its_attempt() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let mut listener = Listener::new(&world, &organization.key, "").await;
    let newer = world.producer(&organization).send(&Event::new("a", "1")).await;
    listener.until(&world, "event", 1).await;

    let accepted_at = UnixMicros::new(UnixMicros::now().get() - 60_000_000);
    let late = event::Event {
        id: EventId::at(accepted_at),
        accepted_at,
        ..new_event(organization.id, "a", "2")
    };
    world.publish_events(&[late]).await;
    listener.until(&world, "event", 2).await;
    listener.until(&world, "attempt", 2).await;
    let ids = |kind: &str, field: &str| {
        let heard = listener.of(kind).into_iter();
        heard
            .map(|data| text(data, field).to_owned())
            .collect::<HashSet<_>>()
    };
    let both = HashSet::from([newer.to_string(), late.id.to_string()]);
    assert_eq!(
        (ids("event", "id"), ids("attempt", "event_id")),
        (both.clone(), both)
    );
    assert!(listener.of("skipped").is_empty(), "{:?}", listener.heard);
    world.finish().await;
}

#[tokio::test]
async fn late_events_beyond_those_that_are_told_are_counted_for_whom_they_belong_to() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme").await;
    let key = bound(&world, &organization, "acme").await.key;
    let mut all = Listener::new(&world, &organization.key, "").await;
    let mut own = Listener::new(&world, &key, "").await;
    let columns = "now() - interval '1 hour', now(), case when n % 10 = 0 then 'acme' else 'globex' end";
    store(&world, &organization, 700, columns).await;
    until_known(&world, &mut [(&mut all, 700), (&mut own, 70)]).await;
    let is_foreign = |event: &&Value| event["tenant"] != json!("acme");
    assert!(!own.of("event").iter().any(is_foreign), "{:?}", own.heard);
    assert!(!all.of("event").is_empty());
    world.finish().await;
}

#[tokio::test]
async fn an_event_behind_very_many_newer_ones_is_counted() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let mut listener = Listener::new(&world, &organization.key, "").await;
    let columns = "now() - n * interval '1 millisecond', now(), null";
    store(&world, &organization, 600, columns).await;
    until_known(&world, &mut [(&mut listener, 600)]).await;
    // These were accepted before all of them, and stored within the time in which events are expected.
    let first = "(select min(accepted_at) from events)";
    let columns = format!("{first} - n * interval '1 millisecond', {first} + interval '4 seconds', null");
    store(&world, &organization, 7, &columns).await;
    until_known(&world, &mut [(&mut listener, 607)]).await;
    world.finish().await;
}

#[tokio::test]
async fn deliveries_whose_attempts_are_not_told_are_said_to_be_there() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for _ in 0..11 {
        world.endpoint(&organization, &receiver).await;
    }
    let mut listener = Listener::new(&world, &organization.key, "").await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    listener.until(&world, "attempt", 10).await;
    listener.until(&world, "skipped", 1).await;
    assert_eq!(listener.of("skipped"), [&json!({"count": null})]);
    assert_eq!(listener.of("attempt").len(), 10);
    world.finish().await;
}
