//! Usage is what the tables hold, and is shown to those whose it is, in pages and as CSV.

use e2e::{Organization, World};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use super::{Counts, counted, expected, filled, until_usage_is, usage};
use crate::calls::{self, request, status};
use crate::setup;

/// What the tables say, without the events that Penstock itself sent.
async fn stored(world: &World, organization: &Organization) -> Counts {
    let query = "select coalesce(e.tenant, ''), count(*), sum(octet_length(e.data))::bigint, sum(d.delivered)::bigint,
                        sum(d.attempts)::bigint, sum(d.dead)::bigint
                 from events e cross join lateral (
                     select count(*) filter (where status = 'delivered') as delivered, coalesce(sum(attempts), 0) as attempts,
                            count(*) filter (where status = 'dead') as dead
                     from deliveries where event_id = e.id
                 ) d
                 where e.org_id = $1 and e.type <> 'delivery.dead' group by 1";
    let query = sqlx::query_as(query).bind(organization.id);
    let rows: Vec<(String, i64, i64, i64, i64, i64)> =
        query.fetch_all(world.database()).await.expect("Postgres runs");
    rows.into_iter()
        .map(|(tenant, accepted, bytes, delivered, attempts, dead)| {
            (tenant, [accepted, bytes, delivered, attempts, dead])
        })
        .collect()
}

/// All entries, page by page of one entry.
async fn all_pages(query: &str, show: impl Fn(&str) -> RequestBuilder) -> Vec<Vec<Value>> {
    let (mut pages, mut next) = (Vec::new(), format!("{query}&limit=1"));
    loop {
        let page = calls::json(show(&next)).await;
        pages.push(page["data"].as_array().expect("a page has data").clone());
        let Some(cursor) = page["next_cursor"].as_str() else {
            return pages;
        };
        next = format!("{query}&limit=1&cursor={cursor}");
    }
}

#[tokio::test]
async fn usage_is_what_the_tables_hold_and_is_shown_to_those_whose_it_is() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "2").start().await;
    let (organization, of_one) = filled(&mut world).await;
    let other = world.organization().await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &expected()).await;
    assert_eq!(stored(&world, &organization).await, expected());

    let from = format!("from={}", world.day(3).await);
    let seen = async |key: &str, query: &str| {
        counted(&calls::json(usage(&world, key, &format!("{from}{query}"))).await)
    };
    let mut one = expected();
    one.retain(|tenant, _| tenant == "one");
    assert_eq!(seen(&of_one.key, "").await, one);
    assert_eq!(seen(&of_one.key, "&tenant=one").await, one);
    assert_eq!(seen(&organization.key, "&tenant=one").await, one);
    assert_eq!(seen(&organization.key, "&tenant=unknown").await, Counts::new());
    assert_eq!(seen(&other.key, "").await, Counts::new());
    assert_eq!(seen(&other.key, "&tenant=one").await, Counts::new());
    let foreign = usage(&world, &of_one.key, "tenant=t%2C%22wo%22");
    assert_eq!(status(foreign).await, 422, "the key is another tenant's");
    let before = format!("&to={}", world.day(2).await);
    assert_eq!(seen(&organization.key, &before).await, Counts::new());
    let page = calls::json(usage(&world, &organization.key, &from)).await;
    assert!(page["counted_through"].is_string(), "{page}");
    assert_eq!(page["data"][0]["organization_id"], json!(organization.id));

    operators_see_all(&world, &organization, &from).await;
    quotas_stand_beside_what_counts_in_them(&world, &organization, &of_one).await;
    pages_and_csv_hold_the_same(&world, &organization, &from).await;
    world.finish().await;
}

/// With the admin token, of one organisation and of all.
async fn operators_see_all(world: &World, organization: &Organization, query: &str) {
    let all = |query: &str| {
        let path = format!("/admin/v1/usage?{query}");
        request(world, 0, Method::GET, &path, world.stack().admin_token())
    };
    let of_organization = format!("{query}&organization_id={}", organization.id);
    for query in [query, of_organization.as_str()] {
        assert_eq!(counted(&calls::json(all(query)).await), expected());
    }
    let of_tenant = calls::json(all(&format!("{of_organization}&tenant=one"))).await;
    assert_eq!(counted(&of_tenant).len(), 1);
    assert_eq!(status(all("tenant=one")).await, 422, "of which organisation?");
    let path = "/admin/v1/usage";
    assert_eq!(
        status(request(world, 0, Method::GET, path, &organization.key)).await,
        401
    );
    let seen = all_pages(query, all).await.concat();
    assert_eq!(counted(&json!({"data": seen})), expected());
}

async fn quotas_stand_beside_what_counts_in_them(
    world: &World,
    organization: &Organization,
    of_one: &Organization,
) {
    let quota_of = |events: u64| json!({"events_per_month": events, "quota_action": "refuse"});
    let set = async |path: &str, key: &str, events: u64| {
        let change = request(world, 0, Method::PATCH, path, key).json(&quota_of(events));
        calls::json(change).await;
    };
    let seen = async |path: &str, key: &str| {
        calls::json(request(world, 0, Method::GET, path, key)).await["quota"].clone()
    };
    let (own, of_tenant) = ("/v1/usage", "/v1/usage?tenant=one");
    assert_eq!(seen(own, &organization.key).await, Value::Null);
    let admin = world.stack().admin_token();
    let path = format!("/admin/v1/organizations/{}", organization.id);
    set(&path, admin, 500).await;
    set("/v1/tenants/one", &organization.key, 50).await;
    assert_eq!(seen(own, &organization.key).await, quota_of(500));
    assert_eq!(seen(of_tenant, &organization.key).await, quota_of(50));
    assert_eq!(seen(own, &of_one.key).await, quota_of(50));
    let unknown = "/v1/usage?tenant=unknown";
    assert_eq!(seen(unknown, &organization.key).await, Value::Null);
    let path = format!("/admin/v1/usage?organization_id={}", organization.id);
    assert_eq!(seen(&path, admin).await, quota_of(500));
    assert_eq!(seen("/admin/v1/usage", admin).await, Value::Null);
}

/// A page for each entry, and CSV with all of them.
async fn pages_and_csv_hold_the_same(world: &World, organization: &Organization, query: &str) {
    let key = &organization.key;
    let pages = all_pages(query, |query| usage(world, key, query)).await;
    assert!(pages.iter().all(|page| page.len() == 1), "{pages:#?}");
    let seen = pages.concat();
    assert_eq!(counted(&json!({"data": seen})), expected());
    for wrong in ["limit=1001", "cursor=x", "format=xml", "from=yesterday"] {
        assert_eq!(status(usage(world, key, wrong)).await, 422, "{wrong}");
    }
    csv_holds(world, key, query, &seen).await;
}

/// CSV holds these entries, asked for in either way; and its first page names the next one.
async fn csv_holds(world: &World, key: &str, query: &str, entries: &[Value]) {
    let asked = usage(world, key, query).header("accept", "text/csv");
    let named = usage(world, key, &format!("{query}&format=csv"));
    for csv in [asked, named] {
        let answer = csv.send().await.expect("ingest-api answers");
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
        let text = answer.text().await.expect("an answer has a whole body");
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("organization_id,day,tenant,accepted,bytes,delivered,attempts,dead")
        );
        let expected = entries.iter().map(|entry| {
            let tenant = match entry["tenant"].as_str() {
                Some("one") => "one",
                Some(_) => "\"t,\"\"wo\"\"\"",
                None => "",
            };
            let counts = ["accepted", "bytes", "delivered", "attempts", "dead"].map(|field| &entry[field]);
            let [accepted, bytes, delivered, attempts, dead] = counts;
            let (id, day) = (calls::text(entry, "organization_id"), calls::text(entry, "day"));
            format!("{id},{day},{tenant},{accepted},{bytes},{delivered},{attempts},{dead}")
        });
        assert_eq!(lines.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }
    let first = usage(world, key, &format!("{query}&limit=1&format=csv"));
    let first = first.send().await.expect("ingest-api answers");
    assert!(first.headers().contains_key("link"), "there is a next page");
}
