//! How the days' partitions are made beside everything else.

use e2e::{World, until};
use sqlx::PgPool;
use sqlx::postgres::PgTransaction;

use super::{day, drop_partitions};
use crate::calls::send;
use crate::setup;

/// A reader, such as a backup, that has looked at the default partition and does not end.
async fn reader(world: &World) -> PgTransaction<'static> {
    let mut reader = world.database().begin().await.expect("Postgres runs");
    let read = sqlx::query("select from deliveries_default").execute(&mut *reader);
    read.await.expect("Postgres runs");
    reader
}

/// Reads all deliveries as every worker does, which needs a lock on the default partition.
async fn read_deliveries(database: &PgPool) {
    let mut transaction = database.begin().await.expect("Postgres runs");
    let limit = sqlx::query("set local statement_timeout = '10s'").execute(&mut *transaction);
    limit.await.expect("Postgres runs");
    let read = sqlx::query("select count(*) from deliveries").execute(&mut *transaction);
    read.await.expect("nobody holds a reader up");
}

async fn partitions(database: &PgPool, table: &str) -> i64 {
    let query = "select count(*) from pg_inherits where inhparent = $1::text::regclass and inhrelid <> ($1 || '_default')::regclass";
    let query = sqlx::query_scalar(query).bind(table);
    query.fetch_one(database).await.expect("Postgres runs")
}

/// A worker that finds a table busy at its start tries again in its first round.
async fn until_deliveries_have_their_partitions(database: &PgPool) {
    until("the partitions of deliveries", async || {
        let seen = partitions(database, "deliveries").await;
        (seen == 6).then_some(()).ok_or_else(|| seen.to_string())
    })
    .await;
}

/// Every test's worker would make them anew.
#[tokio::test]
async fn a_test_begins_with_the_partitions_that_a_worker_makes() {
    let world = setup().replicas(1, 0).start().await;
    for table in ["events", "deliveries", "attempts", "inbox_acknowledgements"] {
        assert_eq!(partitions(world.database(), table).await, 6, "{table}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_reader_of_the_default_partition_holds_up_the_first_worker_and_nobody_else() {
    let mut world = setup().replicas(1, 0).start().await;
    drop_partitions(&world).await;
    let (database, reader) = (world.database().clone(), reader(&world).await);
    let others = async {
        until("the worker to make what it can", async || {
            match partitions(&database, "inbox_acknowledgements").await {
                6 => Ok(()),
                others => Err(format!("{others} partitions")),
            }
        })
        .await;
        until("the worker to wait for the reader", async || {
            let waiting = "select count(*) from pg_locks
                           where relation = 'deliveries_default'::regclass and not granted";
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&database).await.unwrap();
            if waiting > 0 {
                Ok(())
            } else {
                Err("it does not".to_owned())
            }
        })
        .await;
        read_deliveries(&database).await;
        assert_eq!(partitions(&database, "deliveries").await, 0);
        reader.rollback().await.unwrap();
    };
    let (worker, ()) = tokio::join!(world.stack_mut().add_worker(), others);
    worker.unwrap();
    until_deliveries_have_their_partitions(&database).await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_starts_beside_a_reader_of_the_default_partition_when_today_has_its_own() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let last = day(&world, -3).await;
    // Its first round would make the partition again.
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world.execute(format!("drop table deliveries_{last}")).await;
    let reader = reader(&world).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    send(&world.producer(&organization), 5).await;
    receiver.wait_for(5).await;
    read_deliveries(world.database()).await;
    assert_eq!(partitions(world.database(), "deliveries").await, 5);

    reader.rollback().await.unwrap();
    world.restart_worker().await;
    until_deliveries_have_their_partitions(world.database()).await;
    world.finish().await;
}
