//! Bodies that come slowly.

use e2e::{Event, World, until};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{connect, hear};
use crate::setup;

/// More than half of what bodies may hold in the test of it, and that.
const LARGE: u32 = 3 << 20;
const ROOM: u32 = 4 << 20;

/// A batch of `LARGE` bytes, most of them white space. The last byte is missing.
fn large_request(key: &str) -> String {
    let event = r#"[{"type":"a","data":1}"#;
    format!(
        "POST /v1/events/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nConnection: close\r\nContent-Length: {LARGE}\r\n\r\n\
         {event}{}",
        " ".repeat(LARGE as usize - event.len() - 1)
    )
}

/// Starts a large request on a connection of its own.
async fn begin(world: &World, request: &str) -> TcpStream {
    let mut connection = connect(world).await;
    let said = connection.write_all(request.as_bytes()).await;
    said.expect("it is read, wanted or not");
    connection
}

/// Sends the last byte of a large request and returns its answer.
async fn end(mut connection: TcpStream) -> String {
    connection.write_all(b"]").await.expect("it is open");
    hear(connection).await
}

async fn held(world: &World) -> f64 {
    let held = world
        .gauge(world.stack().ingest(0), "penstock_body_buffer_bytes")
        .await;
    held.expect("it is exported")
}

async fn until_held(world: &World, bytes: u32) {
    let awaited = format!("{bytes} bytes of bodies to be held");
    until(&awaited, async || match held(world).await {
        held if (held - f64::from(bytes)).abs() < 1.0 => Ok(()),
        held => Err(format!("{held} are")),
    })
    .await;
}

#[tokio::test]
async fn bodies_that_come_slowly_hold_no_more_memory_than_they_may_together() {
    let setup = setup().ingest_env("BODY_BUFFER_BYTES", &ROOM.to_string());
    let world = setup.start().await;
    let organization = world.organization().await;
    let request = large_request(&organization.key);

    let slow = begin(&world, &request).await;
    until_held(&world, LARGE).await;
    let others = [begin(&world, &request).await, begin(&world, &request).await];
    until("the others to be refused", async || {
        match world.metric(0, "penstock_body_refusals_total").await {
            2 => Ok(()),
            count => Err(format!("{count} are")),
        }
    })
    .await;
    // What is refused is read on, and not held.
    until_held(&world, LARGE).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    for other in others {
        let answer = end(other).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.contains("\r\nretry-after: 2\r\n"), "{answer}");
        let reason = "too many bytes of requests are on their way in";
        assert!(answer.contains(reason), "{answer}");
    }
    let answer = end(slow).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");

    until_held(&world, 0).await;
    let gone = begin(&world, &request).await;
    until_held(&world, LARGE).await;
    drop(gone);
    until_held(&world, 0).await;
    let answer = end(begin(&world, &request).await).await;
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    world.finish().await;
}
