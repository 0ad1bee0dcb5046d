//! What requests are told when Postgres breaks a statement off, and who still gets an answer when its connections are
//! taken; and how much an organisation may store there that is not events.

use std::time::{Duration, Instant};

use e2e::{Organization, Shutdown, World, transcript};
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use shared::domain::id::OrgId;
use sqlx::PgTransaction;

use crate::calls::tried;
use crate::setup;

/// From now on, whatever is inserted into a table runs this.
pub(crate) async fn on_insert(world: &World, table: &'static str, statement: &str) {
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

/// Waits until so many statements wait for a lock.
pub(crate) async fn until_statements_wait(world: &World, count: i64) {
    let waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
    world.until_count_is("statements to wait", waiting, count).await;
}

/// Locks an organisation's row until the transaction ends.
pub(crate) async fn lock_organization(world: &World, id: OrgId) -> PgTransaction<'static> {
    let mut transaction = world.database().begin().await.expect("Postgres runs");
    sqlx::query("select from organizations where id = $1 for update")
        .bind(id)
        .execute(&mut *transaction)
        .await
        .expect("nobody else locks it");
    transaction
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
        ("53100", 503),
        ("58030", 503),
        ("58P01", 503),
        ("XX000", 503),
        ("28000", 503),
        ("08006", 503),
        ("57P01", 503),
        ("55P03", 503),
        ("25P03", 503),
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

#[tokio::test]
async fn a_statement_that_takes_too_long_is_ended_and_answered_503() {
    let setup = setup().replicas(1, 0).ingest_env("STATEMENT_TIMEOUT", "5s");
    let world = setup.start().await;
    let organization = world.organization().await;
    on_insert(&world, "endpoints", "perform pg_sleep(20)").await;
    let begun = Instant::now();
    let answer = post(&world, &organization, "/v1/endpoints", json!({"kind": "pull"})).await;
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["detail"], "the database took too long for this request");
    world.finish().await;
}

#[tokio::test]
async fn lists_that_take_every_connection_keep_no_key_from_being_looked_up_made_or_revoked() {
    let setup = setup().replicas(1, 0).ingest_env("DATABASE_CONNECTIONS", "2");
    let world = setup.start().await;
    let (busy, other) = (world.organization().await, world.organization().await);
    let mut lock = world.database().begin().await.unwrap();
    sqlx::query("lock table events in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let lists = join_all((0..20).map(async |_| {
        let request = world.http().get(world.url("/v1/events")).bearer_auth(&busy.key);
        request
            .send()
            .await
            .expect("ingest-api answers")
            .status()
            .as_u16()
    }));
    let others = async {
        until_statements_wait(&world, 2).await;
        assert_eq!(tried(&world, 0, &other.key).await, 404);
        let made = new_key(&world, &other).await;
        assert_eq!(made.status(), 201);
        let made: Value = made.json().await.unwrap();
        let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
        let revoked = world
            .http()
            .delete(world.url(&path))
            .bearer_auth(&other.key)
            .send()
            .await;
        assert_eq!(revoked.unwrap().status(), 204);
        lock.rollback().await.unwrap();
    };
    tokio::join!(lists, others);
    world.finish().await;
}

#[tokio::test]
async fn requests_that_wait_for_the_same_key_fail_together_when_postgres_is_away() {
    const REQUESTS: u64 = 8;
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Fast).await.unwrap();
    let answers = join_all((0..REQUESTS).map(async |_| {
        let request = world.http().get(world.url("/v1/events/none"));
        request
            .bearer_auth(&organization.key)
            .send()
            .await
            .expect("ingest-api answers")
    }));
    for answer in answers.await {
        let retry_after = answer.headers().contains_key("retry-after");
        assert_eq!((answer.status().as_u16(), retry_after), (503, true));
    }
    // One, and those of requests that a slow machine sent only after its end.
    let lookups = world.metric(0, "penstock_key_lookups_total").await;
    assert!(lookups <= REQUESTS / 2, "{lookups}");
    world.stack_mut().postgres_mut().start().await.unwrap();
    world.finish().await;
}

/// An organisation that has as much as a statement stores for it.
async fn full(world: &World, fill: &'static str) -> Organization {
    let organization = world.organization().await;
    let fill = sqlx::query(fill)
        .bind(organization.id)
        .execute(world.database())
        .await;
    fill.expect("rows can be stored");
    organization
}

/// The statuses of five requests at once, in order.
async fn statuses(requests: impl AsyncFn() -> Response) -> Vec<u16> {
    let mut statuses = join_all((0..5).map(async |_| requests().await.status().as_u16())).await;
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn an_organization_has_1000_endpoints_at_the_most() {
    let world = setup().replicas(1, 0).start().await;
    let endpoints = full(
        &world,
        "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, deleted_at)
         select gen_random_uuid(), $1, 'pull', '', 1, 1, case when n > 999 then now() end from generate_series(1, 1500) n",
    )
    .await;
    let pull = json!({"kind": "pull"});
    let made = statuses(async || post(&world, &endpoints, "/v1/endpoints", pull.clone()).await).await;
    assert_eq!(made, [201, 409, 409, 409, 409]);
    let refused: Value = post(&world, &endpoints, "/v1/endpoints", pull)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        refused["detail"],
        "the organisation has 1000 endpoints, the most it may have: delete some first"
    );

    world.finish().await;
}

#[tokio::test]
async fn at_the_limit_of_endpoints_the_zapier_webhook_is_not_made_but_may_be_changed() {
    let world = setup().replicas(1, 0).start().await;
    let organization = full(
        &world,
        "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms)
         select gen_random_uuid(), $1, 'pull', '', 1, 1 from generate_series(1, 1000)",
    )
    .await;
    let configure = async || {
        let webhook = json!({"webhook_url": "https://example.com/hook"});
        post(&world, &organization, "/api/webhook/config", webhook).await
    };
    insta::assert_snapshot!(transcript(configure().await).await, @r#"
    409 Conflict
    content-type: application/json

    {"error":"the organisation has 1000 endpoints, the most it may have: delete some first"}
    "#);

    let delete = "update endpoints set deleted_at = now() where id = (select id from endpoints limit 1)";
    sqlx::query(delete).execute(world.database()).await.unwrap();
    let made = statuses(configure).await;
    assert_eq!(made, [200; 5], "one makes it, the others change it");
    let another = post(&world, &organization, "/v1/endpoints", json!({"kind": "pull"})).await;
    assert_eq!(another.status(), 409, "the webhook is one of the thousand");
    assert_eq!(configure().await.status(), 200);
    world.finish().await;
}

#[tokio::test]
async fn at_the_limit_of_keys_one_may_be_replaced_at_once_but_not_with_an_overlap() {
    let world = setup().replicas(1, 0).start().await;
    // The organisation has one key already, and gets another one.
    let organization = full(
        &world,
        "insert into api_keys (id, org_id, name, hash, scopes, revoked_at, expires_at)
         select md5(n::text), $1, 'k', '', '{}', case when n % 3 = 1 then now() end,
                case when n % 3 = 2 then now() end
         from generate_series(1, 3 * 997) n",
    )
    .await;
    let old: Value = new_key(&world, &organization).await.json().await.unwrap();
    let made = statuses(async || new_key(&world, &organization).await).await;
    assert_eq!(made, [201, 409, 409, 409, 409]);
    let refused: Value = new_key(&world, &organization).await.json().await.unwrap();
    assert_eq!(
        refused["detail"],
        "the organisation has 1000 valid API keys, the most it may have: revoke some first"
    );
    let path = format!("/v1/keys/{}/rotate", old["id"].as_str().unwrap());
    let rotate = async |overlap: u32| {
        let rotation = json!({"overlap_seconds": overlap});
        post(&world, &organization, &path, rotation).await.status()
    };
    assert_eq!((rotate(60).await.as_u16(), rotate(0).await.as_u16()), (409, 201));
    world.finish().await;
}
