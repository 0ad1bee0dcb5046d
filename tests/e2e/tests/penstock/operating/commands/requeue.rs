//! `delivery-worker requeue`: what leaves the quarantine, and what stays.

use std::process::Output;

use e2e::{World, new_event};
use shared::domain::event::Event;
use shared::domain::id::OrgId;
use shared::wire::frame::{self, EncodedEvent};
use shared::wire::stream;

use super::worker_command;
use crate::setup;

/// The status, what was printed and what went wrong.
type Ended = (Option<i32>, String, String);

async fn requeue(world: &World, args: &[&str]) -> Ended {
    let mut command = worker_command(world, "requeue");
    // As the worker's own user, where there are users.
    let url = world.stack().nats_url();
    let url = url.replace("nats://", "nats://delivery-worker:delivery-worker@");
    let output = command.args(args).env("NATS_URL", url).output().await;
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("the program can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (status.code(), text(&stdout), text(&stderr))
}

/// A row as workers write it.
async fn set_aside(world: &World, place: (&str, i64, i32), version: &str, bytes: &[u8]) {
    let (stream, sequence, position) = place;
    let query = sqlx::query(
        "insert into quarantine (stream, sequence, position, frame_version, reason, bytes)
         values ($1, $2, $3, $4, 'out of luck', $5)",
    );
    let query = query.bind(stream).bind(sequence).bind(position);
    let done = query.bind(version).bind(bytes).execute(world.database()).await;
    done.expect("Postgres runs");
}

async fn in_quarantine(world: &World) -> Vec<(String, i64, i32, Vec<u8>)> {
    let query =
        "select stream, sequence, position, bytes from quarantine order by stream, sequence, position";
    let rows = sqlx::query_as(query).fetch_all(world.database()).await;
    rows.expect("Postgres runs")
}

async fn empty_quarantine(world: &World) {
    world.execute("delete from quarantine").await;
}

fn frame_of(events: &[Event<'_>]) -> Vec<u8> {
    let events: Vec<_> = events.iter().map(EncodedEvent::new).collect();
    frame::encode(events.iter()).into()
}

fn bytes_of(event: &Event<'_>) -> Vec<u8> {
    rmp_serde::to_vec_named(event).expect("an event can be encoded")
}

/// One that no database stores.
fn unstorable(org_id: OrgId) -> Event<'static> {
    new_event(org_id, "a\0", "1")
}

#[tokio::test]
async fn frames_and_events_leave_the_quarantine_once_they_can_be_read_and_arrive_under_their_ids() {
    let mut world = setup()
        .nats_users()
        .ingest_env("EVENT_STREAMS", "2")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let events: Vec<_> = (0..43).map(|_| new_event(organization.id, "a", "1")).collect();
    let (framed, single) = events.split_at(3);
    set_aside(&world, ("EVENTS-1", 7, -1), "9", &frame_of(&framed[..2])).await;
    set_aside(&world, ("EVENTS-9", 7, -1), "9", &frame_of(&framed[2..])).await;
    // More than are read at once, from a place that the stream has not come to.
    for (event, position) in single.iter().zip(0..) {
        set_aside(&world, ("EVENTS-0", 900, position), "9", &bytes_of(event)).await;
    }
    let (status, printed, error) = requeue(&world, &[]).await;
    insta::assert_snapshot!(printed, @r#"
    put back: 0
    stay in quarantine: 42 (frame version Some("9") is not known to this build (it reads versions 1 and 2))
    "#);
    assert_eq!(status, Some(1));
    assert!(
        error.contains("42 in quarantine could not be put back"),
        "{error}"
    );
    assert_eq!(in_quarantine(&world).await.len(), 42);
    assert_eq!(receiver.count(), 0);

    // A build that reads it.
    let query = sqlx::query("update quarantine set frame_version = $1").bind(frame::VERSION);
    query.execute(world.database()).await.expect("Postgres runs");
    let one = ["--stream", "EVENTS-9", "--sequence", "7"];
    let (status, printed, error) = requeue(&world, &one).await;
    assert_eq!((status, printed.as_str()), (Some(0), "put back: 1\n"), "{error}");
    assert_eq!(in_quarantine(&world).await.len(), 41);
    let (status, printed, error) = requeue(&world, &[]).await;
    assert_eq!((status, printed.as_str()), (Some(0), "put back: 41\n"), "{error}");
    world.until_deliveries_are(43, "delivered").await;
    for event in &events {
        assert_eq!(receiver.webhooks_of(event.id).len(), 1);
    }
    let log = world.stack().nats().log();
    assert!(!log.contains("Violation"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn what_is_put_back_twice_is_delivered_once() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = new_event(organization.id, "a", "1");
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    // The row is there again, as if it had not come to the deletion.
    for _ in 0..2 {
        set_aside(&world, ("EVENTS-0", 9, 3), frame::VERSION, &bytes_of(&event)).await;
        let (status, printed, error) = requeue(&world, &[]).await;
        assert_eq!((status, printed.as_str()), (Some(0), "put back: 1\n"), "{error}");
        assert_eq!(in_quarantine(&world).await, []);
    }
    let stream = world.jetstream().await.get_stream(stream::name(0)).await;
    let state = stream.expect("it is there").cached_info().state.clone();
    assert_eq!(state.messages, 2);
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    world.settle().await;
    assert_eq!(receiver.webhooks_of(event.id).len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn of_a_frame_with_an_unreadable_event_the_others_are_delivered_and_that_one_stays() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = new_event(organization.id, "a", "1");
    let good = rmp_serde::to_vec_named(&event).unwrap();
    let frame = frame::pack([&b"\xc1"[..], &good].into_iter());
    set_aside(&world, ("EVENTS-0", 9, -1), frame::VERSION, &frame).await;
    let (status, printed, error) = requeue(&world, &[]).await;
    assert_eq!(status, Some(1), "{error}");
    assert!(
        printed.starts_with("put back: 1\nstay in quarantine: 1 (not an event: "),
        "{printed}"
    );
    world.until_delivery_is(event.id, "delivered").await;
    world.streams_are_drained().await;
    let stays = ("EVENTS-0".to_owned(), 1, 0, b"\xc1".to_vec());
    assert_eq!(in_quarantine(&world).await, [stays]);
    empty_quarantine(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn what_still_cannot_be_stored_is_in_quarantine_again_even_at_the_same_place_of_a_new_stream() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let organization = world.organization().await;
    let bytes = bytes_of(&unstorable(organization.id));
    let at = |sequence| [("EVENTS-0".to_owned(), sequence, 0, bytes.clone())];
    // The first message of the stream will have this place.
    set_aside(&world, ("EVENTS-0", 1, 0), frame::VERSION, &bytes).await;
    let (status, printed, error) = requeue(&world, &[]).await;
    assert_eq!(status, Some(1), "{error}");
    assert!(printed.contains("the same place"), "{printed}");
    world.streams_are_drained().await;
    assert_eq!(in_quarantine(&world).await, at(1));

    empty_quarantine(&world).await;
    set_aside(&world, ("EVENTS-0", 9, 0), frame::VERSION, &bytes).await;
    let (status, printed, error) = requeue(&world, &[]).await;
    assert_eq!((status, printed.as_str()), (Some(0), "put back: 1\n"), "{error}");
    world.streams_are_drained().await;
    assert_eq!(in_quarantine(&world).await, at(2));
    empty_quarantine(&world).await;
    world.finish().await;
}
