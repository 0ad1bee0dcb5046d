//! How Postgres finds the rows that a statement is about.

use std::path::Path;

use e2e::World;
use serde_json::Value;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Postgres};

use crate::setup;

/// The text of the services' one query that has this in it, as it is checked against the schema.
pub fn query_with(text: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.sqlx");
    let files = std::fs::read_dir(folder).expect("it is what the test wrote");
    let queries = files.map(|file| {
        let described: Value = serde_json::from_slice(
            &std::fs::read(file.expect("it is what the test wrote").path())
                .expect("it is what the test wrote"),
        )
        .expect("it is what the test wrote");
        described["query"]
            .as_str()
            .expect("it is what the test wrote")
            .to_owned()
    });
    let found: Vec<_> = queries.filter(|query| query.contains(text)).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

/// A session with the settings of the services' own.
pub async fn service_session(world: &World) -> PoolConnection<Postgres> {
    let mut session = world.database().acquire().await.expect("Postgres runs");
    for (name, value) in shared::db::SESSION_SETTINGS {
        let set = AssertSqlSafe(format!("set {name} = {value}"));
        session
            .execute(sqlx::raw_sql(set))
            .await
            .expect("Postgres takes it");
    }
    session
}

/// The plan of a statement for a session of a service, which knows nothing of the parameters but those given.
async fn plan(session: &mut PgConnection, query: &str, parameters: &[(usize, &str)]) -> Value {
    let prepare = AssertSqlSafe(format!("prepare statement as {query}"));
    session
        .execute(sqlx::raw_sql(prepare))
        .await
        .expect("Postgres takes it");
    let last = (1..).take_while(|number| query.contains(&format!("${number}")));
    let values = last.map(|number| {
        let given = parameters.iter().find(|(given, _)| *given == number);
        given.map_or("null", |(_, value)| *value)
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let explain = AssertSqlSafe(format!("explain (format json) execute statement({values})"));
    let plan = sqlx::query_scalar(explain)
        .fetch_one(&mut *session)
        .await
        .expect("Postgres takes it");
    session
        .execute("deallocate statement")
        .await
        .expect("Postgres takes it");
    plan
}

/// The conditions with which a plan looks into the indexes of one table's partitions.
fn index_conditions(plan: &Value, table: &str) -> Vec<String> {
    let mut conditions = Vec::new();
    let is_of_table = plan["Relation Name"]
        .as_str()
        .is_some_and(|name| name.starts_with(table));
    if is_of_table && let Some(condition) = plan["Index Cond"].as_str() {
        conditions.push(condition.to_owned());
    }
    for part in plan["Plans"].as_array().into_iter().flatten() {
        conditions.extend(index_conditions(part, table));
    }
    conditions
}

#[tokio::test]
async fn results_are_written_by_key_also_in_tables_without_statistics() {
    let world = setup().start().await;
    let mut session = service_session(&world).await;
    // The times between which the events were accepted.
    let of_workers = ("recorded as (", &[(20, "now()"), (21, "now()")][..]);
    let of_pullers = ("with given as materialized (", &[][..]);
    for (text, parameters) in [of_workers, of_pullers] {
        let plan = plan(&mut session, &query_with(text), parameters).await;
        let conditions = index_conditions(&plan[0]["Plan"], "deliveries_");
        let by_key = conditions
            .iter()
            .filter(|condition| condition.contains("event_id"));
        assert!(
            !conditions.is_empty() && by_key.count() == conditions.len(),
            "{plan:#}"
        );
    }
    // The end waits for every connection.
    drop(session);
    world.finish().await;
}
