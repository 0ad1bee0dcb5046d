//! The workers that operators see.

use e2e::{STOP_DEADLINE, World, until};
use reqwest::Method;
use serde_json::Value;

use crate::calls::{self, request, text};
use crate::setup;

/// The workers of `GET /admin/v1/stats`, as soon as there are so many.
async fn until_seen(world: &World, count: usize) -> Vec<Value> {
    until(&format!("{count} workers to be seen"), async || {
        let token = world.stack().admin_token();
        let stats = calls::json(request(world, 0, Method::GET, "/admin/v1/stats", token)).await;
        let workers = stats["workers"].as_array().expect("it is a list").clone();
        if workers.len() == count {
            Ok(workers)
        } else {
            Err(stats.to_string())
        }
    })
    .await
}

async fn until_listed(world: &World, count: i64) {
    let rows = "select count(*) from workers";
    world.until_count_is("rows to be left", rows, count).await;
}

#[tokio::test]
async fn workers_are_seen_while_they_run() {
    let mut world = setup().replicas(1, 3).start().await;
    let workers = until_seen(&world, 3).await;
    for worker in &workers {
        assert_eq!(text(worker, "version"), env!("CARGO_PKG_VERSION"));
        assert!(
            text(worker, "started_at") <= text(worker, "last_seen_at"),
            "{worker}"
        );
    }
    assert_ne!(workers[0]["id"], workers[1]["id"]);

    let stopped = world.stack_mut().worker_mut(0).terminate(STOP_DEADLINE).await;
    assert!(stopped.expect("it runs").success());
    let left = until_seen(&world, 2).await;
    assert!(
        left.iter()
            .all(|worker| workers.iter().any(|before| before["id"] == worker["id"]))
    );

    // One that dies says nothing, and is seen for another minute.
    world.stack_mut().worker_mut(1).kill().await.expect("it runs");
    until_listed(&world, 2).await;
    world
        .execute("update workers set last_seen_at = last_seen_at - interval '6 minutes'")
        .await;
    // The one that is left says that it runs, and takes the other one off the list.
    until_seen(&world, 1).await;
    until_listed(&world, 1).await;
    world.finish().await;
}
