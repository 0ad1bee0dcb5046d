//! Processes that are asked to stop: they finish what they have begun.

use e2e::{Load, STOP_DEADLINE};

use crate::faults::{send, slow_receiver};
use crate::setup;

#[tokio::test]
async fn an_ingest_api_that_stops_under_load_answers_what_it_has_begun() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let load = Load::start(&world.producer(&organization), 16);
    load.accepts(200).await;
    let stopped = world
        .stack_mut()
        .ingest_mut(0)
        .terminate(STOP_DEADLINE)
        .await
        .unwrap();
    assert!(stopped.success(), "{stopped}");
    load.is_unanswered().await;
    let sent = load.stop().await;
    assert!(sent.refused.is_empty(), "{:?}", sent.refused);
    let verdict = world.history(sent.accepted, &receiver).await.judge();
    assert!(verdict.is_flawless(), "{verdict:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_stops_under_load_sends_nothing_twice_and_another_one_sends_the_rest() {
    let mut world = setup().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = slow_receiver(&mut world, &organization).await;
    let accepted = send(&world.producer(&organization), 200).await;
    receiver.wait_for(60).await;
    let stopped = world
        .stack_mut()
        .worker_mut(0)
        .terminate(STOP_DEADLINE)
        .await
        .unwrap();
    assert!(stopped.success(), "{stopped}");
    let verdict = world.history(accepted, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.accepted == 200, "{verdict:?}");
    assert_eq!(receiver.count(), 200);
    world.finish().await;
}
