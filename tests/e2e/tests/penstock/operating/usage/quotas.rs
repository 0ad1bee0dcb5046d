//! Quotas: owners are told when they are nearly and wholly used up, and events beyond are refused by choice.

use e2e::{Event, Organization, Producer, Receiver, Webhook, World, is_time, until};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::calls::{self, make, request, send, status, text};
use crate::setup;

/// The type and the data of an operational event.
fn told(webhook: &Webhook) -> (String, Value) {
    let body = webhook.parse();
    let data = serde_json::from_str(body.data.get()).expect("it is what the test wrote");
    (body.r#type, data)
}

/// A receiver whose endpoint names this type.
async fn watcher(world: &mut World, organization: &Organization, fields: Value) -> Receiver {
    let receiver = world.receiver().await;
    world.endpoint_with(organization, &receiver, fields).await;
    receiver
}

async fn try_send(producer: &Producer, tenant: Option<&str>) -> Response {
    let event = Event::new("a", "1").of_tenant(tenant);
    producer.try_send(&event).await.expect("ingest-api answers")
}

async fn until_answered(producer: &Producer, tenant: Option<&str>, expected: StatusCode) -> Response {
    until(&format!("events to be answered {expected}"), async || {
        let answer = try_send(producer, tenant).await;
        if answer.status() == expected {
            Ok(answer)
        } else {
            Err(answer.status().to_string())
        }
    })
    .await
}

async fn assert_names_the_quota(answer: Response, owner: &str, events: u64) {
    let retry_after: u64 = answer.headers()["retry-after"]
        .to_str()
        .expect("it is text")
        .parse()
        .expect("it is a number");
    assert!((1..=31 * 86_400).contains(&retry_after), "{retry_after}");
    let problem: Value = answer.json().await.expect("a problem is JSON");
    assert_eq!(
        text(&problem, "type"),
        "https://iana.org/assignments/http-problem-types#quota-exceeded"
    );
    let expected =
        format!("the {owner}'s quota of {events} events a month is used up, until the month ends (UTC)");
    assert_eq!(text(&problem, "detail"), expected);
}

#[tokio::test]
async fn an_organisation_is_told_of_its_quota_and_refused_beyond_it() {
    let mut world = setup().start().await;
    let body = json!({"name": "x", "tier": "enterprise", "events_per_month": 10, "quota_action": "refuse"});
    let organization = world.organization_with(&body).await;
    let types = json!({"event_types": ["organization.quota", "tenant.quota"]});
    let watcher = watcher(&mut world, &organization, types).await;
    let other = world.organization().await;
    let producer = world.producer(&organization);
    send(&producer, 8).await;
    let (kind, warning) = told(&watcher.wait_for(1).await[0]);
    assert_eq!(kind, "organization.quota");
    assert_eq!(
        warning,
        json!({"month": warning["month"], "percent": 80, "used": 8, "events_per_month": 10})
    );
    send(&producer, 2).await;
    let (_, reached) = told(&watcher.wait_for(2).await[1]);
    assert_eq!((&reached["percent"], &reached["used"]), (&json!(100), &json!(10)));
    assert!(
        reached["refused_until"].as_str().is_some_and(is_time),
        "{reached}"
    );

    let refused = until_answered(&producer, None, StatusCode::TOO_MANY_REQUESTS).await;
    assert_names_the_quota(refused, "organisation", 10).await;
    let event = json!({"type": "a", "data": 1});
    let batch = producer.post("/v1/events/batch").json(&json!([event]));
    assert_eq!(status(batch).await, 429);
    let legacy = producer
        .post("/api/events")
        .json(&json!({"type": "a", "payload": 1}));
    let legacy = legacy.send().await.expect("ingest-api answers");
    assert_eq!(legacy.status(), 429);
    assert!(world.metric(0, "penstock_quota_refusals_total").await >= 3);
    let reading = request(&world, 0, Method::GET, "/v1/events", &organization.key);
    assert_eq!(status(reading).await, 200, "what is there can be read");
    assert_eq!(try_send(&world.producer(&other), None).await.status(), 202);

    let path = format!("/admin/v1/organizations/{}", organization.id);
    let change = async |body: Value| {
        let change = request(&world, 0, Method::PATCH, &path, world.stack().admin_token());
        calls::json(change.json(&body)).await
    };
    let wrong = request(&world, 0, Method::PATCH, &path, world.stack().admin_token());
    let wrong = calls::wrong_fields(wrong.json(&json!({"events_per_month": 0}))).await;
    assert_eq!(wrong, "events_per_month: must be 1 to 1000000000000");
    let changed = change(json!({"quota_action": "warn"})).await;
    assert_eq!(
        (&changed["events_per_month"], &changed["quota_action"]),
        (&json!(10), &json!("warn"))
    );
    until_answered(&producer, None, StatusCode::ACCEPTED).await;
    world.settle().await;
    assert_eq!(watcher.count(), 2, "each level is told once");
    let changed = change(json!({"events_per_month": null, "quota_action": null})).await;
    assert_eq!(
        (&changed["events_per_month"], &changed["quota_action"]),
        (&Value::Null, &json!("warn"))
    );
    let measured = "select count(*) from quota_uses";
    world
        .until_count_is("nothing to be measured any more", measured, 0)
        .await;
    world.finish().await;
}

/// The hours that are counted and those after them make up the month.
#[tokio::test]
async fn a_quota_counts_what_was_counted_and_what_came_since() {
    let mut world = setup().replicas(1, 0).start().await;
    let body = json!({"name": "x", "tier": "enterprise", "events_per_month": 1_000});
    let organization = world.organization_with(&body).await;
    // As if they were counted before.
    let counted = "with hour as (select date_trunc('hour', now() - interval '90 minutes', 'UTC') as at),
                   noted as (
                       insert into usage_hours (hour, counted_at, state, open_since)
                       select at, now(), 'settled', now() from hour
                   )
                   insert into usage_totals (org_id, day, hour, accepted)
                   select $1, (now() at time zone 'UTC')::date, 0, 700 from hour";
    let counted = sqlx::query(counted).bind(organization.id);
    counted.execute(world.database()).await.expect("Postgres runs");
    world.stack_mut().add_worker().await.expect("a worker starts");
    send(&world.producer(&organization), 5).await;
    until("both to be measured", async || {
        let used = sqlx::query_scalar("select used from quota_uses");
        match used.fetch_optional(world.database()).await {
            Ok(Some(705_i64)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_is_refused_beyond_its_own_quota_and_others_are_not() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let put = request(&world, 0, Method::PUT, "/v1/tenants/acme", &organization.key);
    let fields = json!({"events_per_month": 5, "quota_action": "refuse"});
    let made = calls::json(put.json(&fields)).await;
    assert_eq!(
        (&made["events_per_month"], &made["quota_action"]),
        (&json!(5), &json!("refuse"))
    );
    let key = json!({"name": "k", "scopes": ["ingest"], "tenant": "acme"});
    let key = make(&world, &organization.key, &key).await;
    let bound = world.producer(&Organization {
        id: organization.id,
        key: text(&key, "key").to_owned(),
    });
    let of_tenant = json!({"event_types": ["tenant.quota"], "tenant": "acme"});
    let of_tenant = watcher(&mut world, &organization, of_tenant).await;
    let of_all = json!({"event_types": ["tenant.*"], "all_tenants": true});
    let of_all = watcher(&mut world, &organization, of_all).await;
    let of_none = json!({"event_types": ["tenant.quota"]});
    let of_none = watcher(&mut world, &organization, of_none).await;
    let producer = world.producer(&organization);
    for _ in 0..5 {
        assert_eq!(try_send(&producer, Some("acme")).await.status(), 202);
    }
    let refused = until_answered(&producer, Some("acme"), StatusCode::TOO_MANY_REQUESTS).await;
    assert_names_the_quota(refused, "tenant", 5).await;
    let refused = try_send(&bound, None).await;
    assert_eq!(refused.status(), 429);
    assert_names_the_quota(refused, "tenant", 5).await;
    for other in [None, Some("other")] {
        assert_eq!(try_send(&producer, other).await.status(), 202);
    }
    let event = |tenant: Option<&str>| json!({"type": "a", "data": 1, "tenant": tenant});
    let batch = json!([event(Some("acme")), event(None), event(Some("other"))]);
    let batch = calls::json(producer.post("/v1/events/batch").json(&batch)).await;
    let results = batch["results"].as_array().expect("results are a list");
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(429), Some(202), Some(202)]);

    // Some of the five may have been measured, and told of, before the last.
    let last = until("the tenant to be told that its quota is used up", async || {
        let all: Vec<_> = of_tenant
            .webhooks()
            .iter()
            .map(|webhook| told(webhook).1)
            .collect();
        let last = all.iter().find(|data| data["percent"] == 100).cloned();
        last.ok_or_else(|| format!("{all:?}"))
    })
    .await;
    assert_eq!(
        (&last["tenant"], &last["events_per_month"]),
        (&json!("acme"), &json!(5))
    );
    of_all.wait_for(1).await;
    assert_eq!(of_none.count(), 0, "it gets events of no tenant");
    world.finish().await;
}
