//! Figures that people see: usage with its quotas, refused tenants, an endpoint's day, and workers.

use e2e::{Event, Organization, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::browser::Browser;
use crate::calls::{self, request};
use crate::setup;

/// Counts of today, in an hour that is not counted before it is over.
const USED: &str = "insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
                    select $1::uuid, (now() at time zone 'UTC')::date, tenant, 23, accepted, 5000000, accepted, accepted + 7, 3
                    from (values ('', 66), ('acme', 1234)) as given (tenant, accepted)";

/// The hour that is not over, and the one before it, are counted: an hour that ends meanwhile adds no events of the test.
const COUNTED: &str = "insert into usage_hours (hour, counted_at, state, open_since)
                       select date_trunc('hour', now(), 'UTC') - n * interval '1 hour', now(), 'settled', now()
                       from generate_series(0, 1) as n
                       on conflict (hour) do nothing";

/// Attempts in the hours of the last day, most of which succeeded.
const ATTEMPTED: &str = "insert into endpoint_hours (endpoint_id, org_id, hour, succeeded, failed, durations)
                         select $1::uuid, $2::uuid, date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 40 + n, n % 5,
                                array[0, 0, 0, 5, 20 + n, 10, 5]
                         from generate_series(1, 20) as n";

/// Newer organisations, more than a page of their list has.
const OTHERS: &str = "insert into organizations (id, name, tier)
                      select gen_random_uuid(), 'other', 'free' from generate_series(1, 120)";

async fn set(world: &World, path: &str, key: &str, body: Value) {
    calls::json(request(world, 0, Method::PATCH, path, key).json(&body)).await;
}

/// Usage, and quotas that it comes near to.
async fn use_up(world: &World, organization: &Organization) {
    world.execute(COUNTED).await;
    let written = sqlx::query(USED).bind(organization.id);
    let written = written.execute(world.database()).await;
    written.expect("Postgres takes it");
    let path = format!("/admin/v1/organizations/{}", organization.id);
    let token = world.stack().admin_token();
    set(world, &path, token, json!({"events_per_month": 2_000})).await;
    let quota = json!({"events_per_month": 1_300, "quota_action": "refuse"});
    set(world, "/v1/tenants/acme", &organization.key, quota).await;
}

/// Lets a tenant be refused for its limit.
async fn refuse(world: &World, organization: &Organization) {
    let limit = json!({"rate_limit_per_minute": 1});
    set(world, "/v1/tenants/globex", &organization.key, limit).await;
    let event = Event {
        tenant: Some("globex".to_owned()),
        ..Event::new("a", "1")
    };
    let producer = world.producer(organization);
    until("the limit to be used up", async || {
        let answer = producer.try_send(&event).await.expect("ingest-api answers");
        match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn people_see_what_was_used_who_was_refused_and_how_an_endpoint_did() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["acme", "globex"] {
        super::portal::tenant(&world, &organization, uid).await;
    }
    let endpoint = world.endpoint(&organization, &receiver).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    world.settle().await;
    use_up(&world, &organization).await;
    let attempted = sqlx::query(ATTEMPTED).bind(endpoint.id).bind(organization.id);
    let attempted = attempted.execute(world.database()).await;
    attempted.expect("Postgres takes it");
    world.execute(OTHERS).await;
    let base = world.url("");
    let arguments = [&*base, &organization.key, world.stack().admin_token()];
    let Some(mut browser) = Browser::run("figures.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    browser.hear("refuse").await;
    refuse(&world, &organization).await;
    browser.say("go on").await;
    browser.finish().await;
    world.settle().await;
    world.finish().await;
}
