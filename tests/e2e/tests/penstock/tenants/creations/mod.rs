//! Endpoints that are asked for at once are made together, and each request gets its own answer.

mod alone;

use e2e::{Organization, World, until};
use futures_util::future::join_all;
use reqwest::{Method, Response, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use super::tenant;
use crate::calls::{json, make, request, status, text};
use crate::faults::database::{lock_organization, until_statements_wait};
use crate::world;

/// A request for an endpoint.
fn creation(world: &World, key: &str, body: &Value) -> RequestBuilder {
    request(world, 0, Method::POST, "/v1/endpoints", key).json(body)
}

fn of_tenant(tenant: Option<&str>, create_tenant: bool) -> Value {
    json!({"kind": "pull", "tenant": tenant, "create_tenant": create_tenant})
}

/// Waits until so many requests are at the replica: each has a connection of its own.
async fn until_requests_are_there(world: &World, count: usize) {
    let count = u32::try_from(count).expect("there are few");
    until("the requests to be there", async || {
        let open = world
            .gauge(world.stack().ingest(0), "penstock_http_connections")
            .await;
        let are_there = open.is_some_and(|open| open >= f64::from(count));
        are_there
            .then_some(())
            .ok_or_else(|| format!("{open:?} connections"))
    })
    .await;
}

/// The answers to requests of so many keys that come while the organisation's row is locked. One statement of each key waits for
/// it.
async fn at_once(
    world: &World,
    organization: &Organization,
    keys: i64,
    requests: Vec<RequestBuilder>,
) -> Vec<Response> {
    let count = requests.len();
    let held = lock_organization(world, organization.id).await;
    let answers = join_all(
        requests
            .into_iter()
            .map(async |request| request.send().await.expect("ingest-api answers")),
    );
    let releasing = async {
        until_requests_are_there(world, count).await;
        until_statements_wait(world, keys).await;
        held.rollback().await.expect("Postgres runs");
    };
    tokio::join!(answers, releasing).0
}

/// How many endpoints and tenants an organisation counts: as many as there are.
async fn counted(world: &World, organization: &Organization) -> (i32, i32) {
    let counted = sqlx::query_as(
        "select o.endpoints, o.tenants,
                (select count(*) from endpoints e where e.org_id = o.id and e.deleted_at is null),
                (select count(*) from tenants t where t.org_id = o.id)
         from organizations o where o.id = $1",
    );
    let counted = counted.bind(organization.id).fetch_one(world.database()).await;
    let (endpoints, tenants, are, tenants_are): (i32, i32, i64, i64) = counted.expect("Postgres runs");
    assert_eq!((i64::from(endpoints), i64::from(tenants)), (are, tenants_are));
    (endpoints, tenants)
}

/// The name of a key in the audit log.
fn actor(key: &str) -> String {
    format!("key:{}", &key[8..24])
}

/// How many endpoints and how many tenants have an entry that tells all of them as the key's, and how many entries there are.
async fn told(world: &World, key: &str) -> (i64, i64, i64) {
    let told = sqlx::query_as(
        "with made as (
             select * from audit_log
             where action = 'made' and actor = $1 and address = '127.0.0.1' and before is null
         )
         select (select count(*) from endpoints e
                 join made a on a.kind = 'endpoint' and a.subject = e.id::text and a.org_id = e.org_id
                            and a.tenant is not distinct from e.tenant
                            and a.after = without_secrets(to_jsonb(e) - array['version', 'updated_at'])),
                (select count(*) from tenants t
                 join made a on a.kind = 'tenant' and a.subject = t.uid and a.org_id = t.org_id and a.tenant = t.uid
                            and a.after = without_secrets(to_jsonb(t) - array['version', 'updated_at'])),
                (select count(*) from audit_log where kind in ('endpoint', 'tenant'))",
    );
    let told = told.bind(actor(key)).fetch_one(world.database()).await;
    told.expect("Postgres runs")
}

/// Gives the organisation endpoints of a tenant, or of none.
async fn fill(world: &World, organization: &Organization, tenant: Option<&str>, count: i32) {
    let fill = "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant)
                select gen_random_uuid(), $1, 'pull', '', 1, 1000, $2 from generate_series(1, $3)";
    let fill = sqlx::query(fill).bind(organization.id).bind(tenant).bind(count);
    fill.execute(world.database()).await.expect("Postgres runs");
}

#[tokio::test]
async fn endpoints_that_are_asked_for_while_one_is_made_are_made_together() {
    const REQUESTS: i32 = 24;
    let world = world().await;
    let organization = world.organization().await;
    let key = &organization.key;
    let requests = (0..REQUESTS).map(|number| {
        let tenant = format!("tenant-{number}");
        creation(&world, key, &of_tenant(Some(&tenant), true))
    });
    let answers = at_once(&world, &organization, 1, requests.collect()).await;
    let are_made = answers
        .iter()
        .all(|answer| answer.status() == StatusCode::CREATED);
    assert!(are_made, "{answers:?}");
    // One, or a few when some came late.
    let transactions = world
        .count("select count(distinct xmin::text) from endpoints")
        .await;
    assert!(transactions <= i64::from(REQUESTS / 4), "{transactions}");
    assert_eq!(counted(&world, &organization).await, (REQUESTS, REQUESTS));
    let each = i64::from(REQUESTS);
    assert_eq!(told(&world, key).await, (each, each, 2 * each));

    // Were two of them one, the second change would find another version.
    for answer in answers {
        let tag = answer.headers()["etag"].clone();
        let made: Value = answer.json().await.expect("it is JSON");
        let path = format!("/v1/endpoints/{}", text(&made, "id"));
        assert_eq!(json(request(&world, 0, Method::GET, &path, key)).await, made);
        let change = request(&world, 0, Method::PATCH, &path, key).header("if-match", tag);
        let changed = status(change.json(&json!({"description": "changed"}))).await;
        assert_eq!(changed, StatusCode::OK);
    }
    world.finish().await;
}

#[tokio::test]
async fn each_request_of_a_group_gets_its_own_answer_and_limits_are_exact() {
    let world = world().await;
    let organization = world.organization().await;
    for uid in ["full", "leaving"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    fill(&world, &organization, Some("full"), 998).await;
    let leaving = request(
        &world,
        0,
        Method::DELETE,
        "/v1/tenants/leaving",
        &organization.key,
    );
    assert_eq!(status(leaving).await, StatusCode::ACCEPTED);
    let check = async |asked: &[(Option<&str>, bool, usize, usize, StatusCode)]| {
        let mut requests = Vec::new();
        for (of, create_tenant, count, _, _) in asked {
            let body = of_tenant(*of, *create_tenant);
            requests.extend((0..*count).map(|_| creation(&world, &organization.key, &body)));
        }
        let answers = at_once(&world, &organization, 1, requests).await;
        let mut answers = answers.iter().map(Response::status);
        for (of, _, count, made, refusal) in asked {
            let its: Vec<_> = answers.by_ref().take(*count).collect();
            let (are_made, others): (Vec<_>, Vec<_>) =
                its.into_iter().partition(|status| *status == StatusCode::CREATED);
            assert_eq!(are_made.len(), *made, "{of:?}");
            assert!(others.iter().all(|status| status == refusal), "{of:?} {others:?}");
        }
    };
    check(&[
        (Some("full"), false, 5, 2, StatusCode::CONFLICT),
        (Some("new"), true, 4, 4, StatusCode::CONFLICT),
        (Some("unknown"), false, 2, 0, StatusCode::NOT_FOUND),
        (Some("leaving"), true, 2, 0, StatusCode::CONFLICT),
        (None, false, 3, 3, StatusCode::CONFLICT),
    ])
    .await;
    assert_eq!(counted(&world, &organization).await, (1_007, 3));

    world.execute("update organizations set endpoints = 99998").await;
    check(&[(None, false, 5, 2, StatusCode::CONFLICT)]).await;
    world
        .execute("update organizations set endpoints = 0, tenants = 99998")
        .await;
    let asked =
        ["a", "b", "c", "d", "e"].map(|uid| creation(&world, &organization.key, &of_tenant(Some(uid), true)));
    let answers = at_once(&world, &organization, 1, asked.into()).await;
    let mut statuses: Vec<_> = answers.iter().map(|answer| answer.status().as_u16()).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 409, 409, 409]);
    world.finish().await;
}

#[tokio::test]
async fn two_keys_together_keep_to_the_limits_and_each_endpoint_names_its_maker() {
    let world = world().await;
    let organization = world.organization().await;
    fill(&world, &organization, None, 996).await;
    let other = json!({"name": "other", "scopes": ["manage"]});
    let other = make(&world, &organization.key, &other).await;
    let keys = [organization.key.as_str(), text(&other, "key")].repeat(4);
    let requests = keys
        .iter()
        .map(|key| creation(&world, key, &of_tenant(None, false)));
    let answers = at_once(&world, &organization, 2, requests.collect()).await;
    let mut made = 0;
    for (key, answer) in keys.iter().zip(answers) {
        if answer.status() == StatusCode::CONFLICT {
            continue;
        }
        assert_eq!(answer.status(), StatusCode::CREATED);
        made += 1;
        let endpoint: Value = answer.json().await.expect("it is JSON");
        let maker = sqlx::query_scalar("select actor from audit_log where subject = $1");
        let maker = maker
            .bind(text(&endpoint, "id"))
            .fetch_one(world.database())
            .await;
        let maker: String = maker.expect("there is one entry");
        assert_eq!(maker, actor(key));
    }
    assert_eq!(made, 4);
    assert_eq!(counted(&world, &organization).await, (1_000, 0));
    world.finish().await;
}
