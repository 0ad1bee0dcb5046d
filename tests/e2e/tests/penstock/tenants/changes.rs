//! Changes that many make at once: none waits for a replica that stands still, none is missed, and each holds for the next
//! event.

use e2e::{Signal, World};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::json;
use sqlx::PgTransaction;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{send, tenant};
use crate::calls::{self, json, request, status, text};
use crate::faults::database::{lock_organization, until_statements_wait};
use crate::faults::held_up::lock;
use crate::{setup, two_replicas, world};

/// Stops the first replica while its request waits for what is `held`, makes the other request meanwhile, and lets the
/// replica go on. Returns both answers.
async fn while_it_stands_still(
    world: &World,
    held: PgTransaction<'static>,
    its_request: RequestBuilder,
    other: RequestBuilder,
) -> [StatusCode; 2] {
    let meanwhile = async {
        until_statements_wait(world, 1).await;
        let replica = world.stack().ingest(0);
        replica.signal(Signal::SIGSTOP).expect("it runs");
        held.rollback().await.expect("Postgres runs");
        let answer = status(other).await;
        replica.signal(Signal::SIGCONT).expect("it stands still");
        answer
    };
    let (its_answer, answer) = tokio::join!(status(its_request), meanwhile);
    [its_answer, answer]
}

#[tokio::test]
async fn a_replica_that_stands_still_keeps_nobody_from_making_and_changing_endpoints() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let key = &organization.key;
    let make = |index: usize, tenant: &str| {
        let body = json!({"kind": "pull", "tenant": tenant, "create_tenant": true});
        request(&world, index, Method::POST, "/v1/endpoints", key).json(&body)
    };
    let mut endpoints = Vec::new();
    for index in [0, 1] {
        endpoints.push(json(make(index, "before")).await);
    }
    let held = lock_organization(&world, organization.id).await;
    let answers = while_it_stands_still(&world, held, make(0, "one"), make(1, "two")).await;
    assert_eq!(answers, [StatusCode::CREATED; 2]);

    let change = |index: usize| {
        let path = format!("/v1/endpoints/{}", text(&endpoints[index], "id"));
        request(&world, index, Method::PATCH, &path, key).json(&json!({"description": "changed"}))
    };
    let held = lock(&world, "select from endpoint_version for update").await;
    let answers = while_it_stands_still(&world, held, change(0), change(1)).await;
    assert_eq!(answers, [StatusCode::OK; 2]);
    world.finish().await;
}

#[tokio::test]
async fn endpoints_that_are_made_at_once_make_their_tenant_once_and_all_get_its_events() {
    const ENDPOINTS: usize = 4;
    let world = two_replicas().await;
    let organization = world.organization().await;
    let held = lock_organization(&world, organization.id).await;
    let making = join_all((0..ENDPOINTS).map(|number| {
        let body = json!({"kind": "pull", "tenant": "new", "create_tenant": true});
        let key = &organization.key;
        status(request(&world, number % 2, Method::POST, "/v1/endpoints", key).json(&body))
    }));
    let releasing = async {
        until_statements_wait(&world, 2).await;
        held.rollback().await.expect("Postgres runs");
    };
    let (made, ()) = tokio::join!(making, releasing);
    assert_eq!(made, [StatusCode::CREATED; ENDPOINTS]);
    let counted = sqlx::query_as(
        "select o.endpoints, o.tenants, (select count(*) from endpoints where tenant = 'new' and tenant_enabled)
         from organizations o where o.id = $1",
    );
    let counted = counted.bind(organization.id).fetch_one(world.database()).await;
    let counted: (i32, i32, i64) = counted.expect("Postgres runs");
    assert_eq!(counted, (4, 1, 4));
    world.finish().await;
}

#[tokio::test]
async fn an_organisation_counts_its_tenants_and_endpoints_however_they_are_made() {
    let world = world().await;
    let organization = world.organization().await;
    let key = &organization.key;
    let post = |path: &str| request(&world, 0, Method::POST, path, key);
    let make = |tenant: Option<&str>, create_tenant: bool| {
        let body = json!({"kind": "pull", "tenant": tenant, "create_tenant": create_tenant});
        status(post("/v1/endpoints").json(&body))
    };
    tenant(&world, &organization, "before", json!({})).await;
    for (of, create_tenant, expected) in [
        (Some("before"), false, StatusCode::CREATED),
        (Some("before"), true, StatusCode::CREATED),
        (Some("new"), false, StatusCode::NOT_FOUND),
        (Some("new"), true, StatusCode::CREATED),
        (Some("new"), true, StatusCode::CREATED),
        (None, false, StatusCode::CREATED),
    ] {
        assert_eq!(make(of, create_tenant).await, expected, "{of:?}");
    }
    for _ in 0..2 {
        let webhook = json!({"webhook_url": "https://example.com/hook"});
        assert_eq!(
            status(post("/api/webhook/config").json(&webhook)).await,
            StatusCode::OK
        );
    }
    let listed = json(request(&world, 0, Method::GET, "/v1/endpoints?tenant=new", key)).await;
    let path = format!("/v1/endpoints/{}", text(&listed["data"][0], "id"));
    let deleted = status(request(&world, 0, Method::DELETE, &path, key)).await;
    assert_eq!(deleted, StatusCode::NO_CONTENT);
    let counted = sqlx::query_as("select endpoints, tenants from organizations where id = $1");
    let counted = counted.bind(organization.id).fetch_one(world.database()).await;
    let counted: (i32, i32) = counted.expect("Postgres runs");
    assert_eq!(counted, (5, 2));
    world.finish().await;
}

#[tokio::test]
async fn a_change_that_is_not_committed_holds_up_no_event_and_the_next_event_misses_none() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let of_tenant = async |tenant: &str| {
        let fields = json!({"tenant": tenant, "create_tenant": true});
        world.endpoint_with(&organization, &receiver, fields).await
    };
    of_tenant("other").await;
    let (first, second) = (of_tenant("first").await, of_tenant("second").await);
    let switch = |endpoint: e2e::Endpoint, to: &str| {
        let path = format!("/v1/endpoints/{}", endpoint.id);
        let change = request(&world, 0, Method::PATCH, &path, &organization.key);
        status(change.json(&json!({"status": to})))
    };
    let producer = world.producer(&organization);
    for is_committed in [true, false] {
        for endpoint in [first, second] {
            assert_eq!(switch(endpoint, "disabled").await, StatusCode::OK);
        }
        let mut held = world.database().begin().await.expect("Postgres runs");
        let enable = sqlx::query("update endpoints set status = 'enabled' where id = $1").bind(first.id);
        enable.execute(&mut *held).await.expect("Postgres runs");
        let meanwhile = async {
            until_statements_wait(&world, 1).await;
            let id = send(&producer, Some("other"), "1").await;
            world.until_delivery_is(id, "delivered").await;
            let ended = if is_committed {
                held.commit().await
            } else {
                held.rollback().await
            };
            ended.expect("Postgres runs");
        };
        let (changed, ()) = tokio::join!(switch(second, "enabled"), meanwhile);
        assert_eq!(changed, StatusCode::OK);
        let to_first = send(&producer, Some("first"), "2").await;
        let to_second = send(&producer, Some("second"), "3").await;
        world.settle().await;
        let arrived = [to_first, to_second].map(|id| receiver.webhooks_of(id).len());
        assert_eq!(arrived, [usize::from(is_committed), 1]);
    }
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_follows_the_answer_goes_to_the_new_endpoint_however_many_are_made_at_once() {
    const MAKERS: usize = 8;
    const EACH: usize = 4;
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let making = join_all((0..MAKERS).map(async |maker| {
        let producer = world.producer_at(&organization, maker % 2);
        let mut sent = Vec::new();
        for number in 0..EACH {
            let tenant = format!("{maker}-{number}");
            let fields = json!({"tenant": tenant, "create_tenant": true});
            let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
            sent.push((send(&producer, Some(&tenant), "1").await, endpoint.id));
        }
        sent
    }));
    let sent = making.await.concat();
    world.settle().await;
    assert_eq!(sent.len(), MAKERS * EACH);
    for (id, endpoint) in sent {
        let webhooks = receiver.webhooks_of(id);
        let got: Vec<_> = webhooks.iter().map(|webhook| webhook.endpoint).collect();
        assert_eq!(got, [endpoint]);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_changes_an_endpoint_changes_nothing() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let owner = &organization.key;
    let endpoint = request(&world, 0, Method::POST, "/v1/endpoints", owner);
    let endpoint = json(endpoint.json(&json!({"kind": "pull"}))).await;
    let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
    for method in [Method::PATCH, Method::DELETE] {
        let leaked = json!({"name": "leaked", "scopes": ["manage"]});
        let leaked = calls::make(&world, owner, &leaked).await;
        let held = lock(&world, "select from endpoint_version for update").await;
        let mut change = request(&world, 0, method.clone(), &path, text(&leaked, "key"));
        if method == Method::PATCH {
            change = change.json(&json!({"description": "changed"}));
        }
        let revoking = async {
            until_statements_wait(&world, 1).await;
            // In the table: a replica that hears of it would answer before Postgres does.
            let revoke = sqlx::query("update api_keys set revoked_at = now() where id = $1");
            let revoke = revoke.bind(text(&leaked, "id")).execute(world.database());
            revoke.await.expect("Postgres runs");
            held.rollback().await.expect("Postgres runs");
        };
        let (answer, ()) = tokio::join!(status(change), revoking);
        assert_eq!(answer, StatusCode::SERVICE_UNAVAILABLE, "{method}");
        until_statements_wait(&world, 0).await;
        let shown = json(request(&world, 1, Method::GET, &path, owner)).await;
        assert_eq!(shown["description"], "", "{method}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_change_of_a_tenant_that_waited_bears_the_time_at_which_it_was_made() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "one", json!({})).await;
    let held = lock_organization(&world, organization.id).await;
    let change = request(&world, 0, Method::PATCH, "/v1/tenants/one", &organization.key);
    let change = change.json(&json!({"rate_limit_per_minute": 7}));
    // Replicas look for what was changed since they looked last.
    let released = async {
        until_statements_wait(&world, 1).await;
        let now = sqlx::query_scalar("select clock_timestamp()").fetch_one(world.database());
        let now: OffsetDateTime = now.await.expect("Postgres runs");
        held.rollback().await.expect("Postgres runs");
        now
    };
    let (changed, released) = tokio::join!(json(change), released);
    let made = OffsetDateTime::parse(text(&changed, "updated_at"), &Rfc3339).expect("it is a time");
    assert!(made >= released, "{made} is before {released}");
    world.finish().await;
}

#[tokio::test]
async fn of_requests_for_a_new_tenant_one_makes_it_and_the_others_change_nothing() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let put = |number: usize, expected: &str| {
        let path = "/v1/tenants/acme";
        let put = request(&world, number % 2, Method::PUT, path, &organization.key)
            .header("if-none-match", expected);
        put.json(&json!({"name": number.to_string()}))
    };
    let all = join_all((0..8).map(|number| status(put(number, "*")))).await;
    let made = all.iter().position(|status| *status == StatusCode::CREATED);
    let made = made.expect("one makes it");
    let refused = all
        .iter()
        .filter(|status| **status == StatusCode::PRECONDITION_FAILED);
    assert_eq!(refused.count(), 7, "{all:?}");
    let shown = request(&world, 0, Method::GET, "/v1/tenants/acme", &organization.key);
    assert_eq!(text(&json(shown).await, "name"), made.to_string());
    let wrong = calls::wrong_fields(put(0, "\"1\"")).await;
    assert_eq!(wrong, "If-None-Match: must be `*`");
    let both = put(0, "*").header("if-match", "*");
    assert_eq!(status(both).await, StatusCode::PRECONDITION_FAILED);
    world.finish().await;
}
