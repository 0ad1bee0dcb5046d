//! One endpoint's trouble is not another's, and one tenant's load not its neighbours'.

use std::time::Duration;

use e2e::{Answer, Producer, Receiver, World, new_event, until_within};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::{EndpointId, OrgId};
use shared::wire::stream;
use sqlx::AssertSqlSafe;

use crate::calls::{call, send, status};
use crate::reading::plans::{query_with, service_session};
use crate::setup;

/// How long a busy machine may take for what is much work.
const BUSY: Duration = Duration::from_mins(2);

/// Less than the timeout of an endpoint that hangs.
const SOON: Duration = Duration::from_secs(20);

/// Due rows of one endpoint, each with its event.
async fn fill(world: &World, org: OrgId, endpoint: EndpointId, rows: i32) {
    let query = sqlx::query(
        "with new as (
             insert into events (org_id, accepted_at, id, type, content_type, data)
             select $1, now(), gen_random_uuid(), 'old', 'application/json', '1' from generate_series(1, $3)
             returning id, accepted_at
         )
         insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at)
         select $1, id, $2, accepted_at, now() - interval '1 hour' from new",
    );
    let query = query.bind(org).bind(endpoint).bind(rows);
    query.execute(world.database()).await.expect("Postgres answers");
}

/// Rows that the scans of a plan have read, and whether one of them reads a whole table.
fn rows_read(plan: &Value) -> (f64, bool) {
    let number = |field: &str| plan[field].as_f64().unwrap_or(0.0);
    let kind = plan["Node Type"].as_str().unwrap_or_default();
    let read = (number("Actual Rows") + number("Rows Removed by Filter")) * number("Actual Loops");
    let own = (
        if kind.contains("Scan") { read } else { 0.0 },
        kind == "Seq Scan" && read > 0.0,
    );
    let children = plan["Plans"].as_array().into_iter().flatten().map(rows_read);
    children.fold(own, |sum, child| (sum.0 + child.0, sum.1 || child.1))
}

#[tokio::test]
async fn an_endpoint_that_hangs_and_one_with_50_000_due_deliveries_hold_up_no_other() {
    let mut world = setup().worker_env("CIRCUIT_FAILURES", "1000000").start().await;
    let organization = world.organization().await;
    let (hanging, dead) = (world.receiver().await, world.receiver().await);
    hanging.answer(|_| Answer::status(204).held());
    dead.answer(|_| Answer::status(500).after(Duration::from_millis(100)));
    let fields = json!({"timeout_ms": 30_000, "event_types": ["a"]});
    world.endpoint_with(&organization, &hanging, fields).await;
    let dead_endpoint = world
        .endpoint_with(&organization, &dead, json!({"event_types": ["old"]}))
        .await;
    fill(&world, organization.id, dead_endpoint.id, 50_000).await;
    dead.wait_for(1).await;
    let mut others = Vec::new();
    for _ in 0..8 {
        let receiver = world.receiver().await;
        // It takes one at a time: the most go through the table.
        world
            .endpoint_with(&organization, &receiver, json!({"max_in_flight": 4}))
            .await;
        others.push(receiver);
    }
    send(&world.producer(&organization), 100).await;
    until_within(BUSY, "the others' webhooks", async || {
        let counts: Vec<_> = others.iter().map(Receiver::count).collect();
        if counts.iter().all(|count| *count >= 100) {
            Ok(())
        } else {
            Err(format!("{counts:?}"))
        }
    })
    .await;
    let hung = hanging.webhooks();
    assert!(hung.iter().all(|webhook| webhook.answered.is_none()));
    // Only the end of an attempt makes room for another, and none ends so soon.
    let soon = hung
        .iter()
        .filter(|webhook| webhook.arrived - hung[0].arrived < SOON);
    assert!(soon.count() <= 64);
    let disable =
        sqlx::query("update endpoints set status = 'disabled' where id = $1").bind(dead_endpoint.id);
    disable.execute(world.database()).await.unwrap();
    hanging.release();
    hanging.wait_for(100).await;
    world.finish().await;
}

#[tokio::test]
async fn a_claim_reads_as_many_rows_as_it_takes_however_many_are_due() {
    const TAKE: i32 = 50;
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let disable = sqlx::query("update endpoints set status = 'disabled' where id = $1").bind(endpoint.id);
    disable.execute(world.database()).await.unwrap();
    fill(&world, organization.id, endpoint.id, 50_000).await;

    let mut connection = service_session(&world).await;
    let explain = |query: String| AssertSqlSafe(format!("explain (analyze, format json) {query}"));
    let walk = explain(query_with("with recursive walked"));
    let walk = sqlx::query_scalar(walk).bind(uuid::Uuid::nil()).bind(200_i32);
    let look = explain(query_with("as ordered_seconds"));
    let look = sqlx::query_scalar(look).bind(vec![endpoint.id.as_uuid()]);
    for survey in [walk, look] {
        let plan: Value = survey.fetch_one(&mut *connection).await.unwrap();
        let (rows, whole_table) = rows_read(&plan[0]["Plan"]);
        assert!(rows < 100.0 && !whole_table, "{rows} rows: {plan:#}");
    }

    let claim = explain(query_with("order by next_attempt_at limit share.take"));
    let claim = sqlx::query_scalar(claim)
        .bind(vec![endpoint.id.as_uuid()])
        .bind(vec![TAKE])
        .bind(vec![1_i64]);
    let plan: Value = claim.fetch_one(&mut *connection).await.unwrap();
    let (rows, whole_table) = rows_read(&plan[0]["Plan"]);
    // The row, its event, and the row again to write it.
    assert!(
        rows < 5.0 * f64::from(TAKE) && !whole_table,
        "{rows} rows: {plan:#}"
    );
    // The end waits for every connection.
    drop(connection);
    world.finish().await;
}

#[tokio::test]
async fn endpoints_take_turns_when_a_worker_has_fewer_permits_than_there_are_endpoints() {
    const EACH: i32 = 20;
    let mut world = setup().worker_env("MAX_IN_FLIGHT", "1").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let mut endpoints = Vec::new();
    for _ in 0..3 {
        let of_none = json!({"event_types": ["none"]});
        endpoints.push(world.endpoint_with(&organization, &receiver, of_none).await.id);
    }
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    for endpoint in &endpoints {
        fill(&world, organization.id, *endpoint, EACH).await;
    }
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_deliveries_are(3 * i64::from(EACH), "delivered").await;
    let webhooks = receiver.webhooks();
    for endpoint in endpoints {
        let first = webhooks.iter().position(|webhook| webhook.endpoint == endpoint);
        assert!(first < Some(9), "{endpoint} had its first turn after {first:?}");
    }
    world.finish().await;
}

async fn send_batch(producer: &Producer, tenant: &str, events: usize) {
    let event = |number| json!({"type": "a", "data": number, "tenant": tenant});
    let events: Vec<_> = (0..events).map(event).collect();
    assert_eq!(status(producer.post("/v1/events/batch").json(&events)).await, 202);
}

#[tokio::test]
async fn a_tenants_batches_for_many_endpoints_leave_room_for_that_of_another() {
    let world = setup().start().await;
    let organization = world.organization().await;
    for _ in 0..100 {
        let request = call(&world, &organization, Method::POST, "");
        let request = request.json(&json!({"kind": "pull", "all_tenants": true}));
        assert_eq!(status(request).await, 201);
    }
    let producer = world.producer(&organization);
    for _ in 0..2 {
        send_batch(&producer, "busy", 1_000).await;
    }
    // Few, but more deliveries than one statement writes.
    send_batch(&producer, "neighbour", 50).await;
    // With all of their deliveries.
    let stored = "select count(*) from events where tenant in ('busy', 'neighbour')";
    until_within(BUSY, "all events to be stored", async || {
        match world.count(stored).await {
            2_050 => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    // Postgres numbers transactions as they begin to write.
    let before = "select count(*) from events where tenant = 'busy' and xmin::text::bigint <
                  (select max(xmin::text::bigint) from events where tenant = 'neighbour')";
    let before = world.count(before).await;
    assert!(
        before < 1_500,
        "the neighbour waited while {before} events were stored"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_backlog_of_small_frames_for_several_endpoints_is_stored_at_one_go() {
    const ENDPOINTS: usize = 10;
    const FRAMES: usize = 12;
    const OF_FRAME: usize = 100;
    // However long it takes to store all of them, none may be offered again.
    let mut world = setup().worker_env("INTAKE_ACK_WAIT", "20s").start().await;
    let organization = world.organization().await;
    for _ in 0..ENDPOINTS {
        let request = call(&world, &organization, Method::POST, "");
        assert_eq!(status(request.json(&json!({"kind": "pull"}))).await, 201);
    }
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    for _ in 0..FRAMES {
        let events: Vec<_> = (0..OF_FRAME)
            .map(|_| new_event(organization.id, "a", "1"))
            .collect();
        world.publish_events(&events).await;
    }
    world.stack_mut().worker_mut(0).start().await.unwrap();
    let all = i64::try_from(ENDPOINTS * FRAMES * OF_FRAME).unwrap();
    let stored = "select count(*) from deliveries";
    world.until_count_is("all to be stored", stored, all).await;
    let stream = world.jetstream().await.get_stream(stream::name(0)).await.unwrap();
    let consumer = stream.consumer_info(stream::CONSUMER).await.unwrap();
    let offered = consumer.delivered;
    assert_eq!(
        offered.consumer_sequence, offered.stream_sequence,
        "frames were given back"
    );
    world.finish().await;
}
