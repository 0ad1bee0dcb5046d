//! Processes that are killed, and servers that are away. Nothing that was answered 202 is lost, and what
//! arrives is what was sent.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Answer, Event, Load, Receiver, Shutdown, Verdict, World, transcript, until};
use serde_json::json;

use crate::calls::send;
use crate::faults::held_up::{lock, until_waits};
use crate::setup;

/// A receiver that takes 20 to 50 ms, and its endpoint, which allows 16 deliveries at once.
pub(crate) async fn slow_receiver(world: &mut World, organization: &e2e::Organization) -> Receiver {
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let [.., last] = webhook.id.as_uuid().into_bytes();
        Answer::status(204).after(Duration::from_millis(20 + u64::from(last % 31)))
    });
    let fields = json!({"max_in_flight": 16});
    world.endpoint_with(organization, &receiver, fields).await;
    receiver
}

/// Nothing is lost or altered. What NATS confirms too late is sent to it again, and may then be delivered twice.
pub(crate) fn check_complete(verdict: &Verdict) {
    let is_whole = verdict.lost.is_empty() && verdict.altered.is_empty();
    assert!(is_whole && verdict.delivered == verdict.accepted, "{verdict:?}");
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_sends_again_only_what_it_had_leased() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let arrived = AtomicUsize::new(0);
    receiver.answer(move |_| {
        let (answer, number) = (Answer::status(204), arrived.fetch_add(1, Ordering::Relaxed));
        if number < 60 { answer } else { answer.held() }
    });
    let fields = json!({"max_in_flight": 16, "timeout_ms": 15_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let accepted = send(&world.producer(&organization), 200).await;
    // It begins none of them before it is stored: they lay in the stream when it came.
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.until_deliveries_are_stored(200).await;
    receiver.wait_for(61).await;
    // The answers do not come before the kill.
    receiver.release();
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let deliveries = world.deliveries().await;
    let leased: BTreeSet<_> = deliveries
        .iter()
        .filter(|delivery| delivery.leased)
        .map(|delivery| delivery.event_id)
        .collect();
    // In flight, and answered but not recorded.
    assert!((1..=2 * 16).contains(&leased.len()), "{leased:?}");
    assert!(receiver.count() < 200, "the kill came too late");

    world.stack_mut().worker_mut(0).start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert_eq!((verdict.delivered, verdict.stored), (200, 200));
    assert!(
        verdict.lost.is_empty() && verdict.altered.is_empty(),
        "{verdict:?}"
    );
    assert!(
        verdict.duplicated.is_subset(&leased),
        "{verdict:?}, leased were {leased:?}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_worker_killed_before_any_answer_leaves_everything_to_the_next_one() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 10_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let accepted = send(&world.producer(&organization), 50).await;
    receiver.wait_for(50).await;
    world.until_deliveries_are(50, "pending").await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries.iter().filter(|delivery| delivery.leased).count(), 50);
    receiver.release();
    world.stack_mut().worker_mut(0).start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.accepted == 50, "{verdict:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_nats_server_killed_under_load_loses_no_accepted_event() {
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let loads = [0, 1].map(|replica| Load::start(&world.producer_at(&organization, replica), 4));
    for until_refused in [false, true] {
        for load in &loads {
            load.accepts(100).await;
        }
        world.stack_mut().nats_mut().kill().await.unwrap();
        if until_refused {
            for load in &loads {
                load.is_refused().await;
            }
        }
        world.stack_mut().nats_mut().start().await.unwrap();
    }
    let mut accepted = Vec::new();
    for load in loads {
        load.accepts(100).await;
        let sent = load.stop().await;
        accepted.extend(sent.accepted);
        assert_eq!(sent.unanswered, [""; 0]);
        for refusal in sent.refused {
            insta::allow_duplicates! {
                insta::assert_snapshot!(refusal, @r#"
                503 Service Unavailable
                content-type: application/problem+json
                retry-after: 2

                {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the event stream does not answer"}
                "#);
            }
        }
    }
    let verdict = world.history(accepted, &receiver).await.judge();
    check_complete(&verdict);
    world.finish().await;
}

#[tokio::test]
async fn events_are_accepted_while_postgres_is_away_and_delivered_when_it_is_back() {
    let mut world = setup().start().await;
    let (organization, stranger) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let mut accepted = send(&producer, 1).await;
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Immediate).await.unwrap();
    accepted.extend(send(&producer, 100).await);
    // A key that this replica has not seen cannot be verified now.
    let refused = world.producer(&stranger).try_send(&Event::new("a", "1")).await;
    insta::assert_snapshot!(transcript(refused.unwrap()).await, @r#"
    503 Service Unavailable
    content-type: application/problem+json
    retry-after: 2

    {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the database is not available"}
    "#);
    world.stack_mut().postgres_mut().start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.accepted == 101, "{verdict:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_worker_killed_while_postgres_is_away_loses_nothing_that_it_had_fetched() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let mut accepted = send(&producer, 1).await;
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Immediate).await.unwrap();
    accepted.extend(send(&producer, 50).await);
    world.until_worker_logs("cannot store events").await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world.stack_mut().postgres_mut().start().await.unwrap();
    world.stack_mut().worker_mut(0).start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(
        verdict.lost.is_empty() && verdict.altered.is_empty(),
        "{verdict:?}"
    );
    assert_eq!((verdict.accepted, verdict.delivered), (51, 51));
    world.finish().await;
}

#[tokio::test]
async fn results_of_deliveries_that_ended_while_postgres_was_away_are_not_lost() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let accepted = send(&world.producer(&organization), 20).await;
    receiver.wait_for(20).await;
    world.until_deliveries_are(20, "pending").await;
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Immediate).await.unwrap();
    receiver.release();
    world.until_worker_logs("cannot record results").await;
    world.stack_mut().postgres_mut().start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.accepted == 20, "{verdict:?}");
    world.finish().await;
}

/// Deliveries of events whose first attempts have begun, and which are not stored when Postgres goes away.
#[tokio::test]
async fn answers_that_came_before_their_events_could_be_stored_are_not_lost() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    // The worker knows the endpoint from the beginning.
    world.stack_mut().add_worker().await.expect("a worker starts");
    let lock = lock(&world, "lock table deliveries in share mode").await;
    let accepted = send(&world.producer(&organization), 20).await;
    receiver.wait_for(20).await;
    receiver.release();
    until_waits(&world, "delivery-worker").await;
    world
        .stack_mut()
        .postgres_mut()
        .stop(Shutdown::Immediate)
        .await
        .unwrap();
    drop(lock);
    world.until_worker_logs("cannot store events").await;
    world.stack_mut().postgres_mut().start().await.unwrap();
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.accepted == 20, "{verdict:?}");
    let rows = world.deliveries().await;
    assert!(rows.iter().all(|delivery| delivery.attempts == 1), "{rows:?}");
    world.finish().await;
}

#[tokio::test]
async fn an_ingest_api_killed_under_load_loses_no_accepted_event() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let load = Load::start(&world.producer(&organization), 8);
    for _ in 0..3 {
        load.accepts(50).await;
        world.stack_mut().ingest_mut(0).kill().await.unwrap();
        load.is_unanswered().await;
        world.stack_mut().ingest_mut(0).start().await.unwrap();
    }
    load.accepts(50).await;
    let sent = load.stop().await;
    let verdict = world.history(sent.accepted, &receiver).await.judge();
    check_complete(&verdict);
    world.finish().await;
}

#[tokio::test]
async fn sessions_that_postgres_ends_under_load_are_replaced_and_no_result_is_lost() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = slow_receiver(&mut world, &organization).await;
    let load = Load::start(&world.producer(&organization), 8);
    for _ in 0..3 {
        load.accepts(100).await;
        until("Postgres to end sessions of the worker", async || {
            let ended: i64 = sqlx::query_scalar(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity
                 where application_name = 'delivery-worker'",
            )
            .fetch_one(world.database())
            .await
            .map_err(|error| error.to_string())?;
            if ended > 0 {
                Ok(())
            } else {
                Err("the worker has no session".to_owned())
            }
        })
        .await;
    }
    load.accepts(100).await;
    let sent = load.stop().await;
    assert!(sent.refused.is_empty() && sent.unanswered.is_empty(), "{sent:?}");
    let count = sent.accepted.len();
    let verdict = world.history(sent.accepted, &receiver).await.judge();
    assert_eq!((verdict.delivered, verdict.stored), (count, count));
    assert!(verdict.lost.is_empty(), "{verdict:?}");
    world
        .until_deliveries_are(i64::try_from(count).unwrap(), "delivered")
        .await;
    world.finish().await;
}
