//! What requests are told when Postgres breaks a statement off.

use e2e::{Organization, World};
use reqwest::Response;
use serde_json::{Value, json};

use crate::setup;

/// From now on, whatever is inserted into a table runs this.
async fn on_insert(world: &World, table: &'static str, statement: &str) {
    let function = format!(
        "create or replace function trouble() returns trigger language plpgsql as
         $$ begin {statement}; return new; end $$;
         create or replace trigger trouble before insert on {table} for each row execute function trouble()"
    );
    let made = sqlx::raw_sql(sqlx::AssertSqlSafe(function))
        .execute(world.database())
        .await;
    made.expect("a trigger can be made");
}

async fn post(world: &World, organization: &Organization, path: &str, body: Value) -> Response {
    let request = world.producer(organization).post(path).json(&body);
    request.send().await.expect("ingest-api answers")
}

async fn new_key(world: &World, organization: &Organization) -> Response {
    let key = json!({"name": "k", "scopes": ["ingest"]});
    post(world, organization, "/v1/keys", key).await
}

#[tokio::test]
async fn what_postgres_may_do_later_is_answered_503_and_what_it_will_never_do_500() {
    let mut world = setup().replicas(1, 0).start().await;
    world.tolerate("a request failed");
    let organization = world.organization().await;
    for (code, expected) in [
        ("40P01", 503),
        ("40001", 503),
        ("53200", 503),
        ("53300", 503),
        ("08006", 503),
        ("57P01", 503),
        ("22012", 500),
    ] {
        let raise = format!("raise exception 'trouble' using errcode = '{code}'");
        on_insert(&world, "api_keys", &raise).await;
        let answer = new_key(&world, &organization).await;
        let retry_after = answer.headers().contains_key("retry-after");
        assert_eq!(
            (answer.status().as_u16(), retry_after),
            (expected, expected == 503),
            "{code}"
        );
    }
    world.finish().await;
}
