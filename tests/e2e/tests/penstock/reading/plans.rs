//! How Postgres finds the rows that a statement is about.

use std::path::Path;

use e2e::{Endpoint, Organization, World};
use serde_json::{Value, json};
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Postgres};

use crate::setup;

/// The text of the services' one query that has this in it, as it is checked against the schema.
pub(crate) fn query_with(text: &str) -> String {
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
pub(crate) async fn service_session(world: &World) -> PoolConnection<Postgres> {
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

/// The same, as in the transactions in which long lists and figures are read.
pub(crate) async fn reading_session(world: &World) -> PoolConnection<Postgres> {
    let mut session = service_session(world).await;
    session
        .execute("set enable_bitmapscan = off")
        .await
        .expect("Postgres takes it");
    session
}

/// The plan of a statement for a session of a service, which knows nothing of the parameters but those given.
async fn plan(session: &mut PgConnection, query: &str, parameters: &[(usize, &str)]) -> Value {
    explain(session, "format json", query, parameters).await
}

/// What Postgres says of a statement, which it carries out when the `options` have it analyzed.
pub(crate) async fn explain(
    session: &mut PgConnection,
    options: &str,
    query: &str,
    parameters: &[(usize, &str)],
) -> Value {
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
    let explain = AssertSqlSafe(format!("explain ({options}) execute statement({values})"));
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

/// How many rows of a table's partitions a statement that was carried out has read.
pub(crate) fn rows_read(plan: &Value, table: &str) -> f64 {
    let is_of_table = plan["Relation Name"]
        .as_str()
        .is_some_and(|name| name.starts_with(table));
    let of_loop = [
        "Actual Rows",
        "Rows Removed by Filter",
        "Rows Removed by Index Recheck",
    ]
    .map(|name| plan[name].as_f64().unwrap_or(0.0));
    let here = of_loop.iter().sum::<f64>() * plan["Actual Loops"].as_f64().unwrap_or(0.0);
    let below = plan["Plans"].as_array().into_iter().flatten();
    below
        .map(|part| rows_read(part, table))
        .fold(if is_of_table { here } else { 0.0 }, std::ops::Add::add)
}

/// A thousand keys of an endpoint, each with a delivery that waits for its next attempt and two parked behind it, and one
/// key with a delivery that is due.
async fn seed_waiting_keys(world: &World, organization: &Organization, endpoint: Endpoint) {
    let seeded = sqlx::query(
        "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at, ordering_key, stream,
                                 ordinal, parked)
         select $1, gen_random_uuid(), $2, now(), now() + case when place = 0 then interval '1 day' else interval '0' end,
                'key-' || key, 'a', key * 10 + place, place > 0
         from generate_series(1, 1000) as key, generate_series(0, 2) as place
         union all
         select $1, gen_random_uuid(), $2, now(), now(), 'due', 'a', 1, false",
    );
    let seeded = seeded.bind(organization.id).bind(endpoint.id);
    seeded.execute(world.database()).await.expect("Postgres takes it");
}

#[tokio::test]
async fn a_claim_reads_what_is_due_and_none_of_the_keys_that_wait() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"ordered": true});
    let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
    seed_waiting_keys(&world, &organization, endpoint).await;
    let mut session = service_session(&world).await;
    let one = format!("'{{{}}}'", endpoint.id);
    let walk = (
        "with recursive walked",
        &[(1, "'00000000-0000-0000-0000-000000000000'"), (2, "10")][..],
    );
    let look = ("as ordered_seconds", &[(1, one.as_str())][..]);
    let due = [
        (1, one.as_str()),
        (2, "'{10}'"),
        (3, "'{1970-01-01Z}'"),
        (4, "'{0}'"),
    ];
    for (text, parameters) in [walk, look, (r#"as "behind!""#, &due[..])] {
        let explained = explain(
            &mut session,
            "analyze, format json",
            &query_with(text),
            parameters,
        )
        .await;
        let plan = &explained[0]["Plan"];
        assert!(plan["Actual Rows"].as_f64() >= Some(1.0), "{text}: {explained:#}");
        // Postgres before 18 rounds what each loop reads.
        let read = rows_read(plan, "deliveries");
        assert!(read <= 4.0, "{text} reads {read} rows: {explained:#}");
    }
    drop(session);
    sqlx::query("delete from deliveries")
        .execute(world.database())
        .await
        .unwrap();
    world.finish().await;
}

#[tokio::test]
async fn results_are_written_by_key_also_in_tables_without_statistics() {
    let world = setup().start().await;
    let mut session = service_session(&world).await;
    // The times between which the events were accepted.
    let of_workers = ("recorded as (", &[(20, "now()"), (21, "now()")][..]);
    let of_pullers = ("acknowledged as (", &[][..]);
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

#[tokio::test]
async fn a_recovery_of_a_tenants_endpoint_reads_none_of_the_events_of_others() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let seeded = sqlx::query(
        "insert into events (org_id, accepted_at, id, type, content_type, data, tenant)
         select $1, now() - n * interval '1 millisecond', gen_random_uuid(), 'a', 'application/json', '1',
                case when n <= 3 then 'one' else 'two' end
         from generate_series(1, 1000) n",
    );
    let seeded = seeded.bind(organization.id).execute(world.database()).await;
    seeded.expect("Postgres takes it");
    let mut session = service_session(&world).await;
    let (org_id, none) = (
        format!("'{}'", organization.id),
        "'00000000-0000-0000-0000-000000000000'",
    );
    let parameters = [
        (1, org_id.as_str()),
        (2, none),
        (3, "now()"),
        (4, "now() - interval '1 hour'"),
        (5, none),
        (6, "2000"),
        (7, "'{delivered}'"),
        (8, "'one'"),
    ];
    let query = query_with("coalesce(d.status = any($7), false)");
    let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
    let plan = &explained[0]["Plan"];
    assert_eq!(plan["Actual Rows"].as_f64(), Some(3.0), "{explained:#}");
    let read = rows_read(plan, "events");
    assert!(read <= 3.0, "it reads {read} rows: {explained:#}");
    drop(session);
    world.finish().await;
}

#[tokio::test]
async fn a_look_for_late_events_reads_none_of_those_that_were_stored_in_time() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let seeded = sqlx::query(
        "insert into events (org_id, accepted_at, id, type, content_type, data)
         select $1, now() - case when n <= 3 then interval '1 hour' else n * interval '1 millisecond' end,
                gen_random_uuid(), 'a', 'application/json', '1'
         from generate_series(1, 1000) n",
    );
    let seeded = seeded.bind(organization.id).execute(world.database()).await;
    seeded.expect("Postgres takes it");
    let mut session = service_session(&world).await;
    let org_id = format!("'{}'", organization.id);
    let look = [
        (1, org_id.as_str()),
        (2, "now() - interval '1 minute'"),
        (3, "500"),
    ];
    let count = [
        (1, org_id.as_str()),
        (3, "now() - interval '1 minute'"),
        (4, "now() + interval '1 minute'"),
        (5, "now() - interval '1 minute'"),
        (6, "500"),
    ];
    for (text, parameters) in [
        ("order by stored_at desc", &look[..]),
        ("date_trunc('second', stored_at)", &count[..]),
    ] {
        let query = query_with(text);
        let explained = explain(&mut session, "analyze, format json", &query, parameters).await;
        let read = rows_read(&explained[0]["Plan"], "events");
        assert!(read <= 3.0, "{text} reads {read} rows: {explained:#}");
        assert!(read > 0.0, "{text}: {explained:#}");
    }
    drop(session);
    world.finish().await;
}
