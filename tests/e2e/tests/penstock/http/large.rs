//! Bodies and answers that are large: those that nobody wants, and those that nobody takes.

use e2e::{DEADLINE, Event, Organization, World, until};
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use crate::calls::address;
use crate::http::hostile::{connect, hear};
use crate::reading::pages::store_events;
use crate::setup;

/// More than the buffers of a connection hold.
const UNWANTED: usize = 12 << 20;

/// Sends a request with a body of `UNWANTED` bytes, all of it before it reads anything, and returns the answer.
async fn say_all(world: &World, path: &str, headers: &str) -> String {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {UNWANTED}\r\n{headers}\r\n"
    );
    let request = [head.as_bytes(), &vec![b' '; UNWANTED]].concat();
    let mut connection = connect(world).await;
    let said = tokio::time::timeout(DEADLINE, connection.write_all(&request)).await;
    said.expect("it is read").expect("it is not reset");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut answer)).await;
    closed.expect("it is closed").expect("it is not reset");
    String::from_utf8(answer).expect("it is text")
}

#[tokio::test]
async fn a_client_that_sends_a_large_body_is_told_why_nobody_wants_it() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let limited = json!({"name": "limited", "tier": "free", "rate_limit_per_minute": 1});
    let limited = world.organization_with(&limited).await;
    let sent = world.producer(&limited).try_send(&Event::new("a", "1")).await;
    assert_eq!(sent.unwrap().status(), StatusCode::ACCEPTED);
    let json = |key: &str| format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");

    let answer = say_all(&world, "/v1/events/batch", &json(&limited.key)).await;
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    assert!(answer.contains("\r\nretry-after: "), "{answer}");
    let key = &organization.key;
    let text = json(key).replace("application/json", "text/plain");
    let nobody = "/v1/endpoints/01a20926-5489-7424-beb1-78fb68e5aa15/pull";
    for (path, headers, status) in [
        ("/v1/events/batch", text, 415),
        (nobody, json(key), 404),
        ("/v1/keys", json(key), 413),
    ] {
        let answer = say_all(&world, path, &headers).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    world.finish().await;
}

#[tokio::test]
async fn little_is_read_of_what_a_stranger_sends() {
    let world = setup().replicas(1, 0).start().await;
    let request = |length: usize| {
        let head = format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), &vec![b' '; length]].concat()
    };
    let mut connection = connect(&world).await;
    // The connection lives on.
    for _ in 0..2 {
        let said = connection.write_all(&request(200_000)).await;
        said.expect("it is read");
        let mut answer = [0; 1_024];
        let length = tokio::time::timeout(DEADLINE, connection.read(&mut answer)).await;
        let length = length.expect("it is answered").expect("it is not reset");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let endless = async {
        let mut connection = connect(&world).await;
        let head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut said = connection.write_all(head).await;
        while said.is_ok() {
            said = connection.write_all(b"4\r\nmore\r\n").await;
        }
    };
    let ended = tokio::time::timeout(DEADLINE, endless).await;
    ended.expect("it is cut off");
    world.finish().await;
}

/// Stores events of 200 000 bytes of payload each, without any delivery.
async fn store_large_events(world: &World, organization: &Organization, count: i32) {
    store_events(world, organization, count).await;
    world
        .execute("update events set data = convert_to('\"' || repeat('x', 200000) || '\"', 'UTF8')")
        .await;
}

/// What large answers may hold together.
const ANSWER_ROOM: f64 = 64.0 * 1024.0 * 1024.0;

#[tokio::test]
async fn answers_that_are_not_taken_hold_no_more_memory_than_they_may_together() {
    let world = setup().ingest_env("HEADER_TIMEOUT", "5m").start().await;
    let organization = world.organization().await;
    store_large_events(&world, &organization, 20).await;
    let held = async || {
        let held = world
            .gauge(world.stack().ingest(0), "penstock_answer_buffer_bytes")
            .await;
        held.expect("it is exported")
    };
    // A page is 4 MB, of which a client's buffers take some.
    let mut idle = Vec::new();
    let mut paths = ["/v1/events", "/api/inbox"].iter().cycle().take(24);
    // One after the other, because one that is being written holds more than it needs.
    while world.metric(0, "penstock_answer_refusals_total").await == 0 {
        let path = paths.next().expect("an answer is refused");
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let address = address(&world, 0).parse().unwrap();
        let mut connection = socket.connect(address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            organization.key
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let answered = tokio::time::timeout(DEADLINE, connection.read_exact(&mut [0; 12])).await;
        answered.expect("it is answered").unwrap();
        idle.push(connection);
    }
    let taken = held().await;
    assert!((ANSWER_ROOM / 2.0..=ANSWER_ROOM).contains(&taken), "{taken}");
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    let list = || {
        let request = world.http().get(world.url("/v1/events?limit=1"));
        request.bearer_auth(&organization.key).send()
    };
    let refused = list().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
    drop(idle);
    until("their memory to be given back", async || match held().await {
        0.0 => Ok(()),
        held => Err(held.to_string()),
    })
    .await;
    assert_eq!(list().await.unwrap().status(), StatusCode::OK);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_may_be_left_out_may_also_come_in_no_chunks() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let id = world.endpoint(&organization, &receiver).await.id;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    for (path, status) in [
        (format!("/v1/endpoints/{id}/test"), 202),
        (format!("/v1/events/{event}/replay"), 202),
        (format!("/v1/endpoints/{id}/rotate-secret"), 201),
    ] {
        let mut connection = connect(&world).await;
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            organization.key
        );
        connection.write_all(request.as_bytes()).await.unwrap();
        let answer = hear(connection).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{path}: {answer}"
        );
    }
    world.finish().await;
}
