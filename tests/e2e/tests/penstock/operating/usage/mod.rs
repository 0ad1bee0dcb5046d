//! Usage: counted from the tables, the same whatever happens to workers meanwhile, shown to those whose it is, and limited
//! by quotas.

mod shown;
mod recounts;
mod removed;
mod quotas;

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::{Answer, Event, Organization, World, until_within};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::{self, request, status};
use crate::tenants::bound;

/// Lets three hours pass for all events, and everything be counted anew. The lock is that of who counts.
const LATER: &str = "select pg_advisory_xact_lock(8099000947066495335);
                     update events set accepted_at = accepted_at - interval '3 hours';
                     update deliveries set accepted_at = accepted_at - interval '3 hours';
                     update attempts set accepted_at = accepted_at - interval '3 hours';
                     delete from usage_hours";

/// Lets an hour pass since everything was counted. The lock is that of who counts.
const COUNTED_BEFORE: &str = "select pg_advisory_xact_lock(8099000947066495335);
                              update usage_hours set counted_at = counted_at - interval '1 hour'";

/// How many hours are noted to be counted again.
const NOTED: &str = "select count(*) from usage_recounts";

/// Accepted, bytes, delivered, attempts and dead, by tenant; empty is none.
type Counts = BTreeMap<String, [i64; 5]>;

fn counts<const N: usize>(counts: [(&str, [i64; 5]); N]) -> Counts {
    counts.map(|(tenant, counts)| (tenant.to_owned(), counts)).into()
}

/// What a page says, over all of its days.
fn counted(page: &Value) -> Counts {
    let mut counts = Counts::new();
    for entry in page["data"].as_array().expect("a page has data") {
        let tenant = entry["tenant"].as_str().unwrap_or_default();
        let sums = counts.entry(tenant.to_owned()).or_default();
        let fields = ["accepted", "bytes", "delivered", "attempts", "dead"];
        for (sum, field) in sums.iter_mut().zip(fields) {
            *sum += entry[field].as_i64().expect("it is a number");
        }
    }
    counts
}

fn usage(world: &World, key: &str, query: &str) -> RequestBuilder {
    request(world, 0, Method::GET, &format!("/v1/usage?{query}"), key)
}

/// A worker looks every 10 s, and counts the hours of a month one after the other.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until an organisation's usage of the last days is this.
async fn until_usage_is(world: &World, organization: &Organization, expected: &Counts) {
    let query = format!("limit=1000&from={}", world.day(3).await);
    until_within(PATIENCE, "usage to be counted", async || {
        let page = calls::json(usage(world, &organization.key, &query)).await;
        let seen = counted(&page);
        if seen == *expected {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// An organisation with events of two tenants and of none, delivered and dead, three hours ago; and the key of one tenant.
async fn filled(world: &mut World) -> (Organization, Organization) {
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let fails = String::from_utf8_lossy(&webhook.body).contains("fail");
        Answer::status(if fails { 500 } else { 204 })
    });
    let fields = json!({"all_tenants": true, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let watcher = world.receiver().await;
    let types = json!({"event_types": ["delivery.dead"]});
    world.endpoint_with(&organization, &watcher, types).await;
    let producer = world.producer(&organization);
    let events = [
        (None, "taken"),
        (None, "taken"),
        (Some("one"), "taken"),
        (Some("one"), "taken"),
        (Some("one"), "fail"),
        (Some("t,\"wo\""), "fail"),
    ];
    for (tenant, data) in events {
        let event = Event::new("a", json!(data).to_string()).of_tenant(tenant);
        producer.send(&event).await;
    }
    watcher.wait_for(2).await;
    world.settle().await;
    let put = request(world, 0, Method::PUT, "/v1/tenants/one", &organization.key);
    assert_eq!(status(put.json(&json!({}))).await, 201);
    let of_one = bound(world, &organization, "one").await;
    world.execute(LATER).await;
    (organization, of_one)
}

fn expected() -> Counts {
    counts([
        ("", [2, 14, 2, 2, 0]),
        ("one", [3, 20, 2, 4, 1]),
        ("t,\"wo\"", [1, 6, 0, 2, 1]),
    ])
}
