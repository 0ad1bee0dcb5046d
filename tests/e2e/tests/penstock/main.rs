//! Penstock from the outside: events in over HTTP, webhooks out, and processes killed in between.

mod calls;
mod capture;
mod console;
mod delivering;
mod endpoints;
mod faults;
mod http;
mod keys;
mod operating;
mod reading;
mod sending;
mod tenants;
mod programs;

use e2e::{Setup, World};

/// How long requests wait for NATS, and NATS for workers. A busy machine may let any of them stand still for two seconds: a request
/// must not be refused then, and no other worker be offered what one holds.
const PATIENCE: &str = "5s";

/// One replica of each service.
fn setup() -> Setup {
    let setup = Setup::new(env!("CARGO_BIN_EXE_penstock-stack"));
    setup
        .ingest_env("PUBLISH_TIMEOUT", PATIENCE)
        .worker_env("INTAKE_ACK_WAIT", PATIENCE)
}

/// Says that the calling test is skipped, and why.
fn skip(reason: &str) {
    e2e::skip(env!("CARGO_TARGET_TMPDIR"), reason);
}

/// A world in which nothing is delivered.
async fn world() -> World {
    setup().replicas(1, 0).start().await
}

/// Two replicas, and nothing is delivered.
async fn two_replicas() -> World {
    setup().replicas(2, 0).start().await
}
