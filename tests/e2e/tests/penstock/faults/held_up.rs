//! Statements of a worker that others hold up, or end, and stops that come meanwhile.

use std::process::Stdio;

use e2e::{Answer, Event, STOP_DEADLINE, Shutdown, Signal, World, new_event, until};
use serde_json::json;
use shared::domain::event;
use shared::domain::id::{EventId, OrgId};
use sqlx::postgres::PgTransaction;
use tokio::process::Command;

use crate::faults::database::on_insert;
use crate::operating::commands::worker_command;
use crate::setup;

const WORKER: &str = "delivery-worker";

/// Keeps everybody else from what `lock` locks until the transaction ends.
pub(crate) async fn lock(world: &World, lock: &'static str) -> PgTransaction<'static> {
    let mut transaction = world.database().begin().await.expect("Postgres runs");
    let done = sqlx::query(lock).execute(&mut *transaction).await;
    done.expect("Postgres runs");
    transaction
}

/// Keeps everybody else from storing an event with an idempotency key until the transaction ends.
pub(crate) async fn lock_key(world: &World, org_id: OrgId, id: EventId) -> PgTransaction<'static> {
    let mut transaction = world.database().begin().await.expect("Postgres runs");
    sqlx::query("insert into idempotency_keys (org_id, event_id, accepted_at) values ($1, $2, now())")
        .bind(org_id)
        .bind(id)
        .execute(&mut *transaction)
        .await
        .expect("no such event is stored");
    transaction
}

/// Waits until a session of `application` waits for a lock, and returns its process.
pub(crate) async fn until_waits(world: &World, application: &str) -> i32 {
    until_statement_waits(world, application, "%").await
}

/// Waits until a session of `application` waits for a lock with a statement like this, and returns its process.
pub(crate) async fn until_statement_waits(world: &World, application: &str, statement: &str) -> i32 {
    until(&format!("{application} to wait for a lock"), async || {
        let waiting = "select pid from pg_stat_activity
                       where application_name = $1 and wait_event_type = 'Lock' and query like $2";
        let waiting = sqlx::query_scalar(waiting).bind(application).bind(statement);
        let pid = waiting
            .fetch_optional(world.database())
            .await
            .expect("Postgres runs");
        pid.ok_or_else(|| "nobody waits".to_owned())
    })
    .await
}

/// What the statement that stores events looks like. Not what removes old rows, which may wait too.
pub(crate) const STORING: &str = "%incoming as materialized%";

/// Interrupts the statement that stores an event, by `interrupt`; it is stored and delivered all the same.
async fn storing_goes_on_after(interrupt: &'static str) {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let events = lock(&world, "lock table events in share mode").await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    let storing = until_statement_waits(&world, WORKER, STORING).await;
    let interrupted = sqlx::query_scalar(interrupt).bind(storing);
    let interrupted: bool = interrupted
        .fetch_one(world.database())
        .await
        .expect("Postgres runs");
    assert!(interrupted);
    world.until_worker_logs("cannot store events, trying again").await;
    events.rollback().await.expect("Postgres runs");
    world.until_delivery_is(id, "delivered").await;
    // The worker counts what it has stored, and acknowledges it then.
    world.settle().await;
    let counted = world
        .gauge(world.stack().worker(0), "penstock_intake_events_total")
        .await;
    assert_eq!(counted, Some(1.0));
    world.finish().await;
}

#[tokio::test]
async fn a_statement_that_somebody_cancels_is_made_again() {
    storing_goes_on_after("select pg_cancel_backend($1)").await;
}

#[tokio::test]
async fn an_event_whose_storing_was_interrupted_is_counted_once() {
    storing_goes_on_after("select pg_terminate_backend($1)").await;
}

/// As on a full disk, where Postgres has no code of its own for every file that it cannot write.
#[tokio::test]
async fn an_event_that_postgres_cannot_write_is_stored_once_it_can() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let fails = "raise exception 'could not write init file' using errcode = 'XX000'";
    on_insert(&world, "idempotency_keys", fails).await;
    let event = Event::new("a", "1").with_idempotency_key("k");
    let id = world.producer(&organization).send(&event).await;
    world.until_worker_logs("cannot store events, trying again").await;
    // Dropping the trigger would lock the table, and could deadlock with a worker.
    world
        .execute(
            "create or replace function trouble() returns trigger language plpgsql as
             $$ begin return new; end $$",
        )
        .await;
    world.until_delivery_is(id, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn results_are_recorded_while_an_endpoint_that_is_gone_cannot_be_disabled() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (well, gone) = (world.receiver().await, world.receiver().await);
    let fields = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &well, fields).await;
    let endpoint = world.endpoint(&organization, &gone).await;
    well.answer(|_| Answer::status(204).held());
    gone.answer(|_| Answer::status(410));
    let endpoints = lock(&world, "select from endpoint_version for update").await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    until_waits(&world, WORKER).await;
    well.release();
    until("both results", async || {
        let found = world.deliveries_of(id).await;
        let is_there = found.len() == 2 && found.iter().all(|delivery| delivery.attempts > 0);
        is_there.then_some(()).ok_or_else(|| format!("{found:?}"))
    })
    .await;
    endpoints.rollback().await.unwrap();
    until("the endpoint to be disabled", async || {
        let status = "select status from endpoints where id = $1";
        let status = sqlx::query_scalar(status).bind(endpoint.id.as_uuid());
        let status: String = status.fetch_one(world.database()).await.expect("Postgres runs");
        if status == "disabled" { Ok(()) } else { Err(status) }
    })
    .await;
    let lost = world
        .gauge(world.stack().worker(0), "penstock_leases_lost_total")
        .await;
    assert_eq!((well.count(), lost), (1, Some(0.0)));
    world.finish().await;
}

/// Its row is locked as soon as the statement has come to it, and claims pass it over.
#[tokio::test]
async fn a_delivery_whose_lease_runs_out_while_its_result_is_written_is_sent_once() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    // A lease lasts two seconds longer.
    let fields = json!({"timeout_ms": 4_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    world
        .execute(
            "create function dawdle() returns trigger language plpgsql as
             $$ begin perform pg_sleep(12); return null; end $$;
             create trigger dawdle after update on deliveries for each row
             when (new.status = 'delivered') execute function dawdle()",
        )
        .await;
    for _ in 0..2 {
        world.stack_mut().add_worker().await.expect("a worker starts");
    }
    let event = Event::new("a", "1").with_idempotency_key("k");
    let id = world.producer(&organization).send(&event).await;
    let running_out = "select count(*) from deliveries where status = 'pending' and next_attempt_at < now()";
    world.until_count_is("the lease to run out", running_out, 1).await;
    world.until_delivery_is(id, "delivered").await;
    assert_eq!(receiver.count(), 1);
    for worker in 0..2 {
        let worker = world.stack().worker(worker);
        assert_eq!(world.counter(worker, "penstock_leases_lost_total").await, 0);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_stops_gives_back_the_frames_that_it_has_not_stored() {
    let mut world = setup().worker_env("INTAKE_ACK_WAIT", "60s").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let events = lock(&world, "lock table events in share mode").await;
    world
        .publish_events(&[new_event(organization.id, "a", "1")])
        .await;
    until_waits(&world, WORKER).await;
    for _ in 0..10 {
        world
            .publish_events(&[new_event(organization.id, "a", "1")])
            .await;
    }
    until("the worker to have all frames", async || {
        let consumer = world.consumer().await?;
        match consumer.cached_info().num_ack_pending {
            11 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    world.stack().worker(0).signal(Signal::SIGTERM).unwrap();
    world.until_worker_logs("stopping").await;
    events.rollback().await.unwrap();
    let ended = world.until_worker_ends().await;
    assert!(ended.success());
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_deliveries_are(11, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn a_frame_that_cannot_be_stored_keeps_no_others_from_its_worker_after_a_reconnect() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let held_up = event::Event {
        idempotency_key: Some("k"),
        ..new_event(organization.id, "a", "1")
    };
    let key = lock_key(&world, organization.id, held_up.id).await;
    world.publish_events(&[held_up]).await;
    until_statement_waits(&world, WORKER, STORING).await;
    let nats = world.stack_mut().nats_mut();
    nats.terminate(STOP_DEADLINE).await.unwrap();
    nats.start().await.unwrap();
    world
        .publish_events(&[new_event(organization.id, "a", "2")])
        .await;
    let arrived = receiver.wait_for(1).await;
    assert_eq!(arrived[0].parse().data.get(), "2");
    key.rollback().await.unwrap();
    world.until_deliveries_are(2, "delivered").await;
    world.settle().await;
    assert_eq!(receiver.count(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_stops_while_postgres_is_away_gives_back_its_frames() {
    let mut world = setup().worker_env("INTAKE_ACK_WAIT", "60s").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Immediate).await.unwrap();
    world
        .publish_events(&[new_event(organization.id, "a", "1")])
        .await;
    world.until_worker_logs("cannot store events, trying again").await;
    let ended = world.stack_mut().worker_mut(0).terminate(STOP_DEADLINE).await;
    assert!(ended.unwrap().success());
    world.stack_mut().postgres_mut().start().await.unwrap();
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn an_audit_ends_when_it_is_told_to_stop() {
    let world = setup().start().await;
    let events = lock(&world, "lock table events in access exclusive mode").await;
    let mut audit = worker_command(&world, "audit");
    let audit = audit.stderr(Stdio::piped()).spawn().unwrap();
    until_waits(&world, "delivery-worker audit").await;
    let pid = audit.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(sent.unwrap().success());
    let ended = tokio::time::timeout(e2e::DEADLINE, audit.wait_with_output()).await;
    let output = ended.expect("it stops").unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("told to stop before it was done"), "{errors}");
    events.rollback().await.unwrap();
    world.finish().await;
}
