//! Dead deliveries by endpoint and cause.

use e2e::{Answer, Event};
use reqwest::Method;
use serde_json::{Value, json};

use super::portal::tenant;
use crate::calls::{self, make, request, text};
use crate::setup;

#[tokio::test]
async fn dead_deliveries_are_counted_by_endpoint_and_cause_and_are_gone_when_they_are_recovered() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    tenant(&world, &organization, "acme").await;
    let once = |fields: Value| {
        let mut all = json!({"retry": {"attempts": 1}});
        let fields = fields.as_object().expect("it is an object").clone();
        all.as_object_mut().expect("it is an object").extend(fields);
        all
    };
    let own = world
        .endpoint_with(&organization, &receiver, once(json!({})))
        .await;
    let of_acme = world
        .endpoint_with(&organization, &receiver, once(json!({"tenant": "acme"})))
        .await;
    receiver.answer(|_| Answer::status(500));
    let producer = world.producer(&organization);
    for tenant in [None, None, Some("acme")] {
        let event = Event::new("a", "1").of_tenant(tenant);
        producer.send(&event).await;
    }
    world.until_deliveries_are(3, "dead").await;
    let groups = async |key: &str| {
        let answer = calls::json(request(&world, 0, Method::GET, "/v1/dead-deliveries", key)).await;
        let groups = answer["groups"].as_array().expect("it is a list").clone();
        groups
            .iter()
            .map(|group| {
                assert_eq!(group["capped"], json!(false));
                (
                    text(group, "endpoint_id").to_owned(),
                    text(group, "outcome").to_owned(),
                    group["deliveries"].as_i64(),
                )
            })
            .collect::<Vec<_>>()
    };
    let (of_own, of_tenant) = (
        (own.id.to_string(), "status".to_owned(), Some(2)),
        (of_acme.id.to_string(), "status".to_owned(), Some(1)),
    );
    assert_eq!(groups(&organization.key).await, [of_own, of_tenant.clone()]);
    let bound = json!({"name": "acme", "scopes": ["manage"], "tenant": "acme"});
    let bound = make(&world, &organization.key, &bound).await;
    assert_eq!(
        groups(text(&bound, "key")).await,
        std::slice::from_ref(&of_tenant)
    );

    receiver.answer(|_| Answer::status(204));
    let path = format!("/v1/endpoints/{}/recover", own.id);
    let recover = request(&world, 0, Method::POST, &path, &organization.key);
    calls::json(recover.json(&json!({"since": "2020-01-01T00:00:00Z"}))).await;
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(groups(&organization.key).await, [of_tenant]);
    world.finish().await;
}

#[tokio::test]
async fn dead_deliveries_are_capped_where_an_endpoint_has_more_than_are_looked_at_and_no_sooner() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    // Nothing listens there.
    let (endpoint, _) = world
        .endpoint_at(&organization, "http://127.0.0.1:1/", json!({}))
        .await;
    for (added, capped) in [(1_000, false), (1, true)] {
        let dead = sqlx::query(
            "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, finished_at, last_outcome)
             select $1, gen_random_uuid(), $2, now() - n * interval '1 millisecond', 'dead', now(),
                    case n % 2 when 0 then 'timeout' else 'status' end
             from generate_series(1, $3) n",
        );
        let dead = dead.bind(organization.id).bind(endpoint.id).bind(added);
        let dead = dead.execute(world.database()).await;
        dead.expect("Postgres takes it");
        let path = "/v1/dead-deliveries";
        let answer = calls::json(request(&world, 0, Method::GET, path, &organization.key)).await;
        let groups = answer["groups"].as_array().expect("it is a list");
        assert_eq!(groups.len(), 2, "{answer}");
        let counted = groups.iter().filter_map(|group| group["deliveries"].as_i64());
        assert_eq!(counted.sum::<i64>(), 1_000, "{answer}");
        assert!(groups.iter().all(|group| group["capped"] == capped), "{answer}");
    }
    world.finish().await;
}
