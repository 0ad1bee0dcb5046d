//! Penstock from the outside: events in over HTTP, webhooks out, and processes killed in between.

mod events;
mod batches;
mod repeats;
mod cloudevents;
mod compressed;
mod lenient;
mod reading;
mod pages;
mod openapi;
mod browsers;
mod tenants;
mod retries;
mod bodies;
mod answers;
mod connections;
mod pieces;
mod egress;
mod intake;
mod breaker;
mod pace;
mod filters;
mod ordering;
mod recoveries;
mod retention;
mod removals;
mod partitions;
mod restored;
mod isolation;
mod faults;
mod late_answers;
mod restarts;
mod held_up;
mod silence;
mod backlog;
mod audit;
mod requeue;
mod operating;
mod pending;
mod logs;
mod counting;
mod plans;
mod pull;
mod endpoints;
mod recovery;
mod zapier;
mod contract;
mod edges;
mod scopes;
mod secrets;
mod keys;
mod revocations;
mod outages;
mod shared_keys;
mod database;
mod floods;
mod nats_users;
mod admin;
mod rate_limits;
mod hostile;
mod large;
mod extremes;
mod checker;

mod python;
mod node;

use e2e::Setup;

/// One replica of each service.
fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_penstock-stack"))
}
