//! Logs whose reader has gone away or stands still, and processes that are to end.

use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::net::TcpListener;
use std::process::Command;

use e2e::{Event, STOP_DEADLINE, Signal, World, until};

use crate::setup;

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 64 * 1024;

const DROPPED: &str = "penstock_log_lines_dropped_total";

/// Everything there is to log.
fn talkative() -> e2e::Setup {
    let level = "trace,async_nats=debug,sqlx=info";
    setup()
        .ingest_env("RUST_LOG", level)
        .worker_env("RUST_LOG", level)
}

/// A pipe that nobody reads any more.
fn closed_pipe() -> PipeWriter {
    let (reader, writer) = pipe().expect("there are descriptors");
    drop(reader);
    writer
}

/// A pipe that is full, and whose reader stands still for as long as it is there.
fn stalled_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("there are descriptors");
    writer.write_all(&vec![b'\n'; PIPE_BYTES]).expect("it is empty");
    (reader, writer)
}

/// Starts both services again, with other logs.
async fn restart_with(world: &mut World, mut log: impl FnMut() -> PipeWriter) {
    let stack = world.stack_mut();
    for is_ingest in [true, false] {
        let service = if is_ingest {
            stack.ingest_mut(0)
        } else {
            stack.worker_mut(0)
        };
        let status = service.terminate(STOP_DEADLINE).await.expect("it runs");
        assert!(status.success(), "{status}");
        service.send_output_to(log());
        service.start().await.expect("it starts again");
    }
}

#[tokio::test]
async fn services_whose_log_nobody_reads_any_more_work_on_and_stop_when_they_are_asked_to() {
    let mut world = talkative().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    restart_with(&mut world, closed_pipe).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    // Both have something to say about this.
    world.stack_mut().nats_mut().kill().await.unwrap();
    world.stack_mut().nats_mut().start().await.unwrap();
    until("an event to be accepted", async || {
        let answer = producer.try_send(&Event::new("a", "2")).await;
        let status = answer.map_err(|error| error.to_string())?.status();
        if status == 202 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    receiver.wait_for(2).await;
    assert!(world.metric(0, DROPPED).await > 0);
    assert!(world.gauge(world.stack().worker(0), DROPPED).await > Some(0.0));
    // It asks both to stop, and wants them to end by themselves.
    world.finish().await;
}

#[tokio::test]
async fn a_thousand_requests_that_are_logged_are_answered_although_nobody_reads_the_log() {
    let mut world = talkative().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let mut readers = Vec::new();
    restart_with(&mut world, || {
        let (reader, writer) = stalled_pipe();
        readers.push(reader);
        writer
    })
    .await;
    // h2 has more to say about each of these than there is room for.
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let http = http
        .http2_prior_knowledge()
        .timeout(e2e::DEADLINE)
        .build()
        .unwrap();
    for _ in 0..1_000 {
        let request = http
            .get(world.url("/v1/events/none"))
            .bearer_auth(&organization.key);
        assert_eq!(request.send().await.unwrap().status(), 404);
    }
    assert!(world.metric(0, DROPPED).await > 0);
    world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.finish().await;
    drop(readers);
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once() {
    let mut world = setup().ingest_env("STOP_DELAY", "1h").start().await;
    world.stack().ingest(0).signal(Signal::SIGTERM).unwrap();
    let ready = world.url("/readyz");
    until("the replica to take note of the first one", async || {
        let answer = world.http().get(&ready).send().await;
        let status = answer.map_err(|error| error.to_string())?.status();
        if status == 503 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    world.stack().ingest(0).signal(Signal::SIGINT).unwrap();
    let status = until("the replica to end", async || {
        let ended = world.stack_mut().ingest_mut(0).try_wait();
        ended
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert_eq!(status.code(), Some(130));
    world.finish().await;
}

#[test]
fn why_a_service_cannot_start_is_told_before_it_ends() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    for service in ["ingest-api", "delivery-worker"] {
        let output = Command::new(env!("CARGO_BIN_EXE_penstock-stack"))
            .arg(service)
            .env("DATABASE_URL", "postgres://127.0.0.1/none")
            .env("SECRETS_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
            .env("LISTEN_ADDR", "127.0.0.1:0")
            .env("METRICS_ADDR", &address)
            .output()
            .expect("it can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("METRICS_ADDR: cannot listen on"), "{said}");
    }
}
