//! Processes that are asked to stop: they finish what they have begun.

use e2e::{Load, STOP_DEADLINE, Signal, World, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::calls::{address, send};
use crate::faults::kills::{check_complete, slow_receiver};
use crate::setup;

/// Waits until the first replica, which is stopping, takes no new connections.
pub(crate) async fn until_it_accepts_nobody(world: &World) {
    until(
        "new connections to be refused",
        async || match TcpStream::connect(address(world, 0)).await {
            Ok(_) => Err("one was accepted".to_owned()),
            Err(_) => Ok(()),
        },
    )
    .await;
}

#[tokio::test]
async fn a_request_that_has_begun_when_ingest_api_is_asked_to_stop_is_answered() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let mut connection = TcpStream::connect(address(&world, 0)).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 21\r\nExpect: 100-continue\r\n\r\n",
        organization.key
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // It asks for the body when it has begun to read it.
    let mut interim = [0; 25];
    connection.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");

    world.stack().ingest(0).signal(Signal::SIGTERM).unwrap();
    until_it_accepts_nobody(&world).await;
    connection.write_all(br#"{"type":"a","data":1}"#).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let status = until("ingest-api to end", async || {
        let ended = world
            .stack_mut()
            .ingest_mut(0)
            .try_wait()
            .map_err(|error| error.to_string())?;
        ended.ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(status.success(), "{status}");
    receiver.wait_for(1).await;
    world.finish().await;
}

#[tokio::test]
async fn an_ingest_api_that_stops_under_load_refuses_nothing_that_it_answers() {
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
    check_complete(&world.history(sent.accepted, &receiver).await.judge());
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
