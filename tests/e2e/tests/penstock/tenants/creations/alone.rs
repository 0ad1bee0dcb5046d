//! What befalls one of several creations, and what stays as it is for one that comes alone.

use e2e::{Signal, until};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{at_once, counted, creation, of_tenant, told, until_requests_are_there};
use crate::calls::{json, request, status, text, tried};
use crate::faults::database::{lock_organization, until_statements_wait};
use crate::faults::restarts::until_it_accepts_nobody;
use crate::world;

#[tokio::test]
async fn requests_that_go_away_take_no_other_with_them() {
    let world = world().await;
    let organization = world.organization().await;
    let key = &organization.key;
    let of = |tenant: &str| status(creation(&world, key, &of_tenant(Some(tenant), true)));
    let held = lock_organization(&world, organization.id).await;
    let mut first = Box::pin(of("first"));
    tokio::select! {
        answer = &mut first => panic!("{answer} although the row is locked"),
        () = until_statements_wait(&world, 1) => {}
    }
    let mut gone = Box::pin(of("gone"));
    let mut others = Box::pin(join_all(["one", "two", "three"].map(of)));
    tokio::select! {
        answer = &mut gone => panic!("{answer} although the row is locked"),
        answers = &mut others => panic!("{answers:?} although the row is locked"),
        () = until_requests_are_there(&world, 5) => {}
    }
    drop((first, gone));
    // The replica sees that their connections are closed before it answers on another one, or soon after.
    assert_eq!(tried(&world, 0, key).await, 404);
    held.rollback().await.expect("Postgres runs");
    assert_eq!(others.await, [StatusCode::CREATED; 3]);
    let made = world
        .count("select count(*) from endpoints where tenant = 'first'")
        .await;
    assert_eq!(made, 1, "its statement had begun");
    let (endpoints, tenants) = counted(&world, &organization).await;
    assert!(endpoints == tenants && [4, 5].contains(&endpoints), "{endpoints}");
    assert_eq!(of("after").await, StatusCode::CREATED);
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_postgres_refuses_fails_alone() {
    let mut world = world().await;
    world.tolerate("a request failed");
    let organization = world.organization().await;
    world
        .execute("alter table endpoints add constraint trouble check (description <> 'trouble')")
        .await;
    let descriptions = ["a", "b", "trouble", "c", "d", "e", "trouble", "f"];
    let requests = descriptions.map(|description| {
        let body = json!({"kind": "pull", "description": description});
        creation(&world, &organization.key, &body)
    });
    let answers = at_once(&world, &organization, 1, requests.into()).await;
    for (description, answer) in descriptions.iter().zip(answers) {
        let expected = if *description == "trouble" { 500 } else { 201 };
        assert_eq!(answer.status().as_u16(), expected, "{description}");
    }
    assert_eq!(counted(&world, &organization).await, (6, 0));
    assert_eq!(told(&world, &organization.key).await, (6, 0, 6));
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_stops_answers_all_that_wait_for_their_endpoints() {
    const REQUESTS: usize = 8;
    let mut world = world().await;
    let organization = world.organization().await;
    let held = lock_organization(&world, organization.id).await;
    let body = of_tenant(None, false);
    let making = join_all((0..REQUESTS).map(|_| status(creation(&world, &organization.key, &body))));
    let stopping = async {
        until_statements_wait(&world, 1).await;
        until_requests_are_there(&world, REQUESTS).await;
        let replica = world.stack().ingest(0);
        replica.signal(Signal::SIGTERM).expect("it runs");
        until_it_accepts_nobody(&world).await;
        held.rollback().await.expect("Postgres runs");
    };
    let (made, ()) = tokio::join!(making, stopping);
    assert_eq!(made, [StatusCode::CREATED; REQUESTS]);
    let ended = until("ingest-api to end", async || {
        let ended = world.stack_mut().ingest_mut(0).try_wait();
        ended
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "it runs".to_owned())
    })
    .await;
    assert!(ended.success(), "{ended}");
    assert_eq!(counted(&world, &organization).await, (8, 0));
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_the_release_before_makes_is_counted_once() {
    let world = world().await;
    let organization = world.organization().await;
    for _ in 0..2 {
        let statement = sqlx::query(
            "with owner as materialized (
                 select admission, is_new_tenant, gets_events
                 from admit_endpoint($1, 'acme', true, 1000, 100000, 100000)
             ),
             new_tenant as (
                 insert into tenants (org_id, uid)
                 select $1, 'acme' from owner where admission = 'admitted' and is_new_tenant
             )
             insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant, tenant_enabled)
             select gen_random_uuid(), $1, 'pull', '', 1, 1000, 'acme', gets_events
             from owner where admission = 'admitted'",
        );
        let made = statement.bind(organization.id).execute(world.database()).await;
        assert_eq!(made.expect("Postgres runs").rows_affected(), 1);
    }
    assert_eq!(counted(&world, &organization).await, (2, 1));
    let versions = world
        .count("select count(distinct version) from endpoints where version > 0")
        .await;
    assert_eq!(versions, 2);
    let entries = "select count(*) from audit_log where kind in ('endpoint', 'tenant') and action = 'made'";
    assert_eq!(world.count(entries).await, 3);
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_holds_each_text_as_it_was_given() {
    let world = world().await;
    let organization = world.organization().await;
    let given = json!({
        "url": "https://example.com/%5C?a='b'",
        "tenant": "\u{fc}\\u0041\"{},",
        "create_tenant": true,
        "description": "\"\\u0041\\\"\n\t\u{7f}\u{1f600}{null,}",
        "event_types": ["a,b", "\"c\\", "null", "{d}.*"],
        "filter": {"/a": "\\u0041\"\u{1f600}"},
        "template": {"body": "\\x00 \\u00e9 \u{e9}\n\"{{ data.a }}\"", "content_type": "text/plain"},
        "retry": {"factor": 1.1},
    });
    let made = json(creation(&world, &organization.key, &given)).await;
    let path = format!("/v1/endpoints/{}", text(&made, "id"));
    let shown = json(request(&world, 0, Method::GET, &path, &organization.key)).await;
    for field in [
        "url",
        "tenant",
        "description",
        "event_types",
        "filter",
        "template",
    ] {
        assert_eq!(shown[field], given[field], "{field}");
    }
    assert_eq!(shown["retry"]["factor"], given["retry"]["factor"]);
    world.finish().await;
}
