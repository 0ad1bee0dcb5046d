//! What is found in long lists.

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::json;

use super::plans::{explain, query_with, reading_session, rows_read, service_session};
use crate::calls::{json, request, text};
use crate::{setup, world};

/// A thousand of each, a second apart, of one organisation.
const SEEDS: [&str; 2] = [
    "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, created_at)
     select gen_random_uuid(), $1, 'pull', '', 1, 1000, timestamptz '2026-01-01Z' + n * interval '1 second'
     from generate_series(1, 1000) n",
    "insert into api_keys (id, org_id, name, hash, scopes, created_at)
     select lpad(n::text, 16, 'a'), $1, 'x', 'x', '{}', timestamptz '2026-01-01Z' + n * interval '1 second'
     from generate_series(1, 1000) n",
];

#[tokio::test]
async fn a_page_of_a_list_reads_none_of_the_rows_of_the_pages_before_it() {
    let world = world().await;
    let organization = world.organization_with(&json!({"name": "x"})).await;
    for seed in SEEDS {
        let seeded = sqlx::query(seed).bind(organization.id).execute(world.database());
        seeded.await.expect("Postgres takes it");
    }
    let mut session = service_session(&world).await;
    let org_id = format!("'{}'", organization.id);
    let (at, limit) = ("'2026-01-01 00:00:11Z'", "51");
    let id = "'00000000-0000-0000-0000-000000000000'";
    for (text, table, parameters) in [
        (
            r#"select id as "id!" from endpoints"#,
            "endpoints",
            [(1, org_id.as_str()), (2, at), (3, id), (4, limit)],
        ),
        (
            "(select * from api_keys",
            "api_keys",
            [(1, org_id.as_str()), (2, at), (3, "''"), (4, limit)],
        ),
    ] {
        let query = query_with(text);
        let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
        let plan = &explained[0]["Plan"];
        assert_eq!(plan["Actual Rows"].as_f64(), Some(10.0), "{text}: {explained:#}");
        // One more for the place itself: an index without the ids finds it too.
        let read = rows_read(plan, table);
        assert!(read <= 11.0, "{text} reads {read} rows: {explained:#}");
    }
    // The end waits for every connection.
    drop(session);
    world.finish().await;
}

/// Adds entries to the audit log, a second apart: every 300th is about another thing, every 400th by another actor, and the first of
/// all of another kind.
async fn seed_audit_log(world: &World, organization: &Organization, count: i32) {
    let seeded = sqlx::query(
        "insert into audit_log (org_id, at, actor, kind, subject, action)
         select $1, timestamptz '2026-01-01Z' + n * interval '1 second',
                case when n % 400 = 0 then 'admin:rare' else 'signup' end, case n when 1 then 'portal' else 'key' end,
                case when n % 300 = 0 then 'rare' else 'x' end, 'made'
         from generate_series(1, $2) n",
    );
    let seeded = seeded.bind(organization.id).bind(count);
    let seeded = seeded.execute(world.database()).await;
    seeded.expect("Postgres takes it");
}

#[tokio::test]
async fn entries_of_the_audit_log_are_found_without_those_that_a_filter_leaves_out() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    seed_audit_log(&world, &organization, 1_000).await;
    let mut session = reading_session(&world).await;
    let id = format!("'{}'", organization.id);
    let org = (1, id.as_str());
    let newest = [(2, "'infinity'"), (3, "'ffffffff-ffff-ffff-ffff-ffffffffffff'")];
    let early = [
        (2, "'2026-01-01 00:00:11Z'"),
        (3, "'00000000-0000-0000-0000-000000000000'"),
    ];
    let (subject, actor, limit) = ((5, "'rare'"), (6, "'admin:rare'"), (7, "51"));
    let query = query_with("before::text, after::text");
    for (place, filters, found) in [
        (newest, vec![], 51.0),
        (early, vec![], 10.0),
        (early, vec![org], 10.0),
        (newest, vec![subject], 3.0),
        (newest, vec![org, subject], 3.0),
        (newest, vec![actor], 2.0),
    ] {
        let parameters = [&place[..], &filters[..], &[limit][..]].concat();
        let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
        let plan = &explained[0]["Plan"];
        assert_eq!(plan["Actual Rows"].as_f64(), Some(found), "{explained:#}");
        // One more for the place itself.
        let read = rows_read(plan, "audit_log");
        let is_bounded = read >= found && read <= found + 1.0;
        assert!(is_bounded, "{parameters:?} reads {read} rows: {explained:#}");
    }
    drop(session);
    world.finish().await;
}

#[tokio::test]
async fn a_page_of_the_audit_log_looks_at_10_000_entries_and_leads_on() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    seed_audit_log(&world, &organization, 10_001).await;
    let page = async |query: &str| {
        let path = format!("/admin/v1/audit-log?kind=portal&limit=2{query}");
        json(request(
            &world,
            0,
            Method::GET,
            &path,
            world.stack().admin_token(),
        ))
        .await
    };
    for filter in ["", &format!("&organization_id={}", organization.id)] {
        let first = page(filter).await;
        assert_eq!(first["data"], json!([]), "{filter}");
        let second = page(&format!("{filter}&cursor={}", text(&first, "next_cursor"))).await;
        let found = second["data"].as_array().expect("it is a list");
        assert_eq!(found.len(), 1, "{second}");
        assert!(second["next_cursor"].is_null(), "{second}");
    }
    world.finish().await;
}

#[tokio::test]
async fn what_a_tenant_sees_is_found_without_the_endpoints_of_others() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoints = sqlx::query(
        "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant)
         select gen_random_uuid(), $1, 'pull', '', 1, 1000, case when n <= 3 then 'one' else 'of_' || n end
         from generate_series(1, 1000) n",
    );
    let deliveries = sqlx::query(
        "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, finished_at)
         select $1, '00000000-0000-0000-0000-000000000001', id, timestamptz '2026-01-01Z', 'dead', now()
         from endpoints where org_id = $1",
    );
    for seed in [endpoints, deliveries] {
        let seeded = seed.bind(organization.id).execute(world.database());
        seeded.await.expect("Postgres takes it");
    }
    // As autovacuum does, so that the planner knows how many are the tenant's.
    let analyzed = sqlx::query("analyze endpoints").execute(world.database());
    analyzed.await.expect("Postgres runs");
    let mut session = service_session(&world).await;
    let org_id = format!("'{}'", organization.id);
    let parameters = [
        (1, org_id.as_str()),
        (2, "'{00000000-0000-0000-0000-000000000001}'"),
        (3, "'{2026-01-01Z}'"),
        (4, "100"),
        (5, "'one'"),
    ];
    let query = query_with("over () as of_event from deliveries");
    let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
    let plan = &explained[0]["Plan"];
    assert_eq!(plan["Actual Rows"].as_f64(), Some(3.0), "{explained:#}");
    let read = rows_read(plan, "endpoints");
    assert!(read <= 3.0, "it reads {read} rows: {explained:#}");
    for text in [
        "where m.status = 'enabled' and h.consecutive_failures",
        "m.status = 'disabled' or h.consecutive_failures",
        "as oldest_due_seconds",
        "from dead where not is_beyond group by id, url, last_outcome",
    ] {
        let limits = [(3, "1000"), (4, "1000"), (5, "1000"), (6, "1000")];
        let parameters = [&[(1, org_id.as_str()), (2, "'one'")][..], &limits[..]].concat();
        let query = query_with(text);
        let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
        let read = rows_read(&explained[0]["Plan"], "endpoints");
        // None would mean that Postgres calls the function that finds them, and plans its query at each call.
        assert!(
            read > 0.0 && read <= 3.0,
            "{text} reads {read} rows: {explained:#}"
        );
    }
    drop(session);
    sqlx::query("delete from deliveries")
        .execute(world.database())
        .await
        .expect("Postgres takes it");
    world.finish().await;
}

#[tokio::test]
async fn all_tenants_whose_ids_begin_so_are_found_without_those_behind_them() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let last = char::MAX;
    let found = [
        "a".to_owned(),
        "az".to_owned(),
        format!("a{last}"),
        format!("a{last}{last}z"),
    ];
    let seeded = sqlx::query(
        "insert into tenants (org_id, uid)
         select $1, uid from unnest($2::text[]) as uid
         union all select $1, 'A' || n from generate_series(1, 1000) n
         union all select $1, 'b' || n from generate_series(1, 1000) n",
    );
    let seeded = seeded.bind(organization.id).bind(&found[..]);
    let seeded = seeded.execute(world.database()).await;
    seeded.expect("Postgres takes it");
    for (prefix, expected) in [("a", &found[..]), ("a%F4%8F%BF%BF", &found[2..])] {
        let path = format!("/v1/tenants?prefix={prefix}");
        let page = json(request(&world, 0, Method::GET, &path, &organization.key)).await;
        let data = page["data"].as_array().expect("a page has data");
        let uids: Vec<_> = data.iter().map(|tenant| text(tenant, "uid")).collect();
        assert_eq!(uids, expected, "{prefix}");
    }
    let mut session = service_session(&world).await;
    let (org_id, end) = (
        format!("'{}'", organization.id),
        format!("'a{}'", last.to_string().repeat(255)),
    );
    let parameters = [
        (1, org_id.as_str()),
        (2, "''"),
        (3, "'a'"),
        (4, end.as_str()),
        (5, "51"),
    ];
    let query = query_with("uid > $2 and uid >= $3");
    let explained = explain(&mut session, "analyze, format json", &query, &parameters).await;
    let plan = &explained[0]["Plan"];
    assert_eq!(plan["Actual Rows"].as_f64(), Some(4.0), "{explained:#}");
    let read = rows_read(plan, "tenants");
    assert!(read <= 4.0, "it reads {read} rows: {explained:#}");
    drop(session);
    world.finish().await;
}
