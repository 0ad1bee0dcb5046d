//! Connections to Postgres that die without a word while statements run in them, and statements that die before their answers.

use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::Duration;

use e2e::{Answer, Event, Link, World, until, until_within};
use futures_util::future::join_all;
use shared::db;
use shared::db::address::PostgresConfig;

use crate::faults::held_up::lock;
use crate::setup;

/// How long the services wait for a statement in these tests.
const TIMEOUT: &str = "6s";

/// Until a service that has lost all its connections does again what it does.
const RECOVERY: Duration = Duration::from_secs(60);

/// Waits until so many statements of `application` that look like this wait for a lock.
async fn until_wait(world: &World, application: &str, statement: &str, count: i64) {
    until(&format!("{count} statements to wait for a lock"), async || {
        let waiting = "select count(*) from pg_stat_activity
                       where application_name = $1 and wait_event_type = 'Lock' and query like $2";
        let waiting = sqlx::query_scalar(waiting).bind(application).bind(statement);
        let waiting: i64 = waiting.fetch_one(world.database()).await.expect("Postgres runs");
        if waiting >= count {
            Ok(())
        } else {
            Err(waiting.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn keys_are_looked_up_again_when_every_look_up_was_lost_with_its_connection() {
    let mut world = setup().replicas(1, 0).start().await;
    let (cached, other) = (world.organization().await, world.organization().await);
    let link = Link::start(world.stack()).await;
    let replica = link.replica(world.stack()).with_env("STATEMENT_TIMEOUT", TIMEOUT);
    let replica = replica.with_env("KEY_LOOKUPS", "2");
    let url = world
        .stack_mut()
        .add_ingest_with(replica)
        .await
        .expect("it starts")
        .url();
    let ask = async |key: &str| {
        let request = world.http().get(format!("{url}/v1/events/none")).bearer_auth(key);
        request.send().await.map_err(|error| error.to_string())
    };
    assert_eq!(ask(&cached.key).await.unwrap().status(), 404);
    let mut lost = Vec::new();
    for _ in 0..2 {
        lost.push(world.organization().await.key);
    }

    let keys = lock(&world, "lock table api_keys in access exclusive mode").await;
    let answers = join_all(lost.iter().map(|key| ask(key)));
    let silence = async {
        until_wait(&world, "ingest-api", "%where k.id = $1%", 2).await;
        link.fall_silent();
        keys.rollback().await.unwrap();
    };
    let (answers, ()) = tokio::join!(answers, silence);
    for answer in answers {
        assert_eq!(answer.expect("there is an answer").status(), 503);
    }
    for key in [&other.key, &cached.key] {
        until_within(RECOVERY, "a key to be looked up", async || {
            match ask(key).await?.status().as_u16() {
                404 => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_goes_on_when_its_statements_were_lost_with_their_connections() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = serde_json::json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let link = Link::start(world.stack()).await;
    let replica = link.replica(world.stack()).with_env("STATEMENT_TIMEOUT", TIMEOUT);
    let replica = replica.with_env("DATABASE_CONNECTIONS", "3");
    world
        .stack_mut()
        .add_worker_with(replica)
        .await
        .expect("it starts");
    let producer = world.producer(&organization);
    let recorded = producer.send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.until_delivery_is(recorded, "pending").await;

    let deliveries = lock(&world, "lock table deliveries in share mode").await;
    let stored = producer.send(&Event::new("a", "2")).await;
    receiver.release();
    // The result of one and the storing of the other.
    for statement in ["%with results as%", "%with current as%"] {
        until_wait(&world, "delivery-worker", statement, 1).await;
    }
    link.fall_silent();
    deliveries.rollback().await.unwrap();
    for id in [recorded, stored] {
        until_within(RECOVERY, "a delivery", async || {
            let found = world.deliveries_of(id).await;
            let is_done = found.iter().any(|delivery| delivery.status == "delivered");
            is_done.then_some(()).ok_or_else(|| format!("{found:?}"))
        })
        .await;
    }
    world.finish().await;
}

/// A client that hangs up drops its request's transaction while that begins.
#[tokio::test]
async fn a_transaction_that_is_dropped_while_it_begins_leaves_its_connection_free() {
    let world = setup().replicas(0, 0).start().await;
    let address = PostgresConfig {
        database_url: world.stack().database_url().to_owned(),
        database_password_file: None,
    };
    let pool = db::pool("test", &address, 1, &[]).unwrap();
    for _ in 0..10 {
        let mode = sqlx::query_scalar("select current_setting('transaction_read_only')");
        let mode: String = mode.fetch_one(&pool).await.unwrap();
        assert_eq!(mode, "off");
        while pool.num_idle() == 0 {
            tokio::task::yield_now().await;
        }
        let mut beginning = Box::pin(pool.begin_with("begin read only"));
        let mut is_over = false;
        for _ in 0..3 {
            is_over =
                is_over || poll_fn(|context| Poll::Ready(beginning.as_mut().poll(context).is_ready())).await;
        }
    }
    world.finish().await;
}
