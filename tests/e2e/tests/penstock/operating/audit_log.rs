//! Who changed what: written with the change, never changed itself, listed, and written out.

use e2e::{Organization, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::calls::{json, make, request, status, text};
use crate::setup;

/// The entries that a query selects, newest first.
async fn entries(world: &World, query: &str) -> Vec<Value> {
    let path = format!("/admin/v1/audit-log?{query}");
    let page = json(request(world, 0, Method::GET, &path, world.stack().admin_token())).await;
    page["data"].as_array().expect("it is a list").clone()
}

/// The only entry that a query selects.
async fn entry(world: &World, query: &str) -> Value {
    let found = entries(world, query).await;
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}

fn key_id(organization: &Organization) -> &str {
    &organization.key[8..24]
}

async fn of_the_operator(world: &World, manager: &str) {
    let body = json!({"name": "Acme"});
    let made = json(request(world, 0, Method::POST, "/admin/v1/organizations", manager).json(&body)).await;
    let org_id = text(&made, "id");
    let about = entry(world, &format!("organization_id={org_id}&kind=organization")).await;
    assert_eq!(
        (
            &about["actor"],
            &about["address"],
            &about["action"],
            &about["subject"]
        ),
        (
            &json!("admin:ops"),
            &json!("127.0.0.1"),
            &json!("made"),
            &json!(org_id)
        )
    );
    assert_eq!(
        (&about["before"], &about["after"]["name"]),
        (&Value::Null, &json!("Acme"))
    );

    let path = format!("/admin/v1/organizations/{org_id}");
    let change = request(world, 0, Method::PATCH, &path, world.stack().admin_token());
    json(change.json(&json!({"tier": "pro"}))).await;
    let changed = entries(world, &format!("organization_id={org_id}&kind=organization")).await;
    assert_eq!(changed.len(), 2);
    assert_eq!(
        (&changed[0]["actor"], &changed[0]["before"], &changed[0]["after"]),
        (
            &json!("admin:admin"),
            &json!({"tier": "free"}),
            &json!({"tier": "pro"})
        )
    );
}

async fn of_a_key(world: &World, organization: &Organization) {
    let by = format!("key:{}", key_id(organization));
    let key = make(
        world,
        &organization.key,
        &json!({"name": "k", "scopes": ["ingest"]}),
    )
    .await;
    let path = format!("/v1/keys/{}", text(&key, "id"));
    for _ in 0..2 {
        assert_eq!(
            status(request(world, 0, Method::DELETE, &path, &organization.key)).await,
            StatusCode::NO_CONTENT
        );
    }
    let told = entries(world, &format!("kind=key&subject={}", text(&key, "id"))).await;
    let actions: Vec<_> = told.iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["revoked", "made"], "revoking it again changes nothing");
    assert!(told.iter().all(|entry| entry["actor"] == json!(by)), "{told:#?}");
}

#[tokio::test]
async fn each_change_says_who_did_what_and_from_where_without_secrets() {
    let manager = "m".repeat(32);
    let world = setup()
        .replicas(1, 0)
        .ingest_env("ADMIN_TOKENS", &format!("ops:manage:{manager}"))
        .start()
        .await;
    of_the_operator(&world, &manager).await;
    let organization = world.organization().await;
    let by = format!("key:{}", key_id(&organization));
    let fields = json!({"url": "http://127.0.0.1:9/", "headers": {"x-a": "canary"}, "tenant": "acme", "create_tenant": true});
    let post = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key).json(&fields);
    let endpoint = json(post).await;
    let id = text(&endpoint, "id");
    let path = format!("/v1/endpoints/{id}");
    let change = request(&world, 0, Method::PATCH, &path, &organization.key);
    json(change.json(&json!({"description": "new"}))).await;
    let rotate = request(
        &world,
        0,
        Method::POST,
        &format!("{path}/rotate-secret"),
        &organization.key,
    );
    assert_eq!(status(rotate).await, StatusCode::CREATED);
    assert_eq!(
        status(request(&world, 0, Method::DELETE, &path, &organization.key)).await,
        StatusCode::NO_CONTENT
    );
    let told = entries(&world, &format!("kind=endpoint&subject={id}")).await;
    let actions: Vec<_> = told.iter().map(|entry| text(entry, "action")).collect();
    assert_eq!(actions, ["deleted", "changed", "changed", "made"]);
    assert!(
        told.iter()
            .all(|entry| entry["actor"] == json!(by) && entry["tenant"] == "acme"),
        "{told:#?}"
    );
    assert_eq!(told[1]["after"]["secret"], "(secret)");
    assert_eq!(
        (&told[2]["before"], &told[2]["after"]),
        (&json!({"description": ""}), &json!({"description": "new"}))
    );
    assert_eq!(told[3]["after"]["headers"], "(secret)");
    let tenants = entry(
        &world,
        &format!("kind=tenant&organization_id={}", organization.id),
    )
    .await;
    assert_eq!(
        (&tenants["subject"], &tenants["actor"]),
        (&json!("acme"), &json!(by))
    );

    of_a_key(&world, &organization).await;
    let all = serde_json::to_string(&entries(&world, "limit=100").await).expect("it is JSON");
    for secret in ["canary", "$argon2", "\\\\x"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_change_by_nobody_is_told_too_and_pages_and_filters_hold() {
    let world = crate::world().await;
    let (one, other) = (world.organization().await, world.organization().await);
    world.execute("update organizations set name = 'by hand'").await;
    let told = entries(&world, "kind=organization&limit=2").await;
    for entry in &told {
        assert_eq!(entry["after"], json!({"name": "by hand"}));
        assert!(text(entry, "actor").starts_with("service:"));
    }
    let mut seen = Vec::new();
    let mut query = "limit=2".to_owned();
    loop {
        let path = format!("/admin/v1/audit-log?{query}");
        let page = json(request(
            &world,
            0,
            Method::GET,
            &path,
            world.stack().admin_token(),
        ))
        .await;
        seen.extend(page["data"].as_array().expect("it is a list").clone());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("limit=2&cursor={next}");
    }
    assert_eq!(seen, entries(&world, "limit=100").await);
    // Each organisation and its key was made, and each name was changed.
    assert_eq!(seen.len(), 6);
    for organization in [&one, &other] {
        let own = entries(&world, &format!("organization_id={}", organization.id)).await;
        assert_eq!(own.len(), 3);
    }
    assert_eq!(entries(&world, "actor=admin:admin").await.len(), 4);
    assert_eq!(
        entries(&world, &format!("subject={}", key_id(&one))).await.len(),
        1
    );
    let wrong = request(
        &world,
        0,
        Method::GET,
        "/admin/v1/audit-log?kind=x",
        world.stack().admin_token(),
    );
    assert_eq!(status(wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    let key = request(&world, 0, Method::GET, "/admin/v1/audit-log", &one.key);
    assert_eq!(status(key).await, StatusCode::UNAUTHORIZED);
    world.finish().await;
}

#[tokio::test]
async fn entries_are_neither_changed_nor_removed_but_by_age() {
    let mut world = setup().replicas(1, 0).start().await;
    world.organization().await;
    for statement in [
        "update audit_log set actor = 'me'",
        "delete from audit_log",
        "truncate audit_log",
    ] {
        let refused = sqlx::query(statement).execute(world.database()).await;
        let refused = refused.expect_err("it only grows").to_string();
        assert!(refused.contains("audit_log only grows"), "{refused}");
    }
    world
        .execute(
            "insert into audit_log (at, org_id, actor, kind, subject, action)
             select now() - days * interval '1 day', gen_random_uuid(), 'service:old', 'key', days::text, 'made'
             from unnest(array[9, 11]) as days",
        )
        .await;
    let replica = e2e::Replica::default().with_env("AUDIT_RETENTION", "10days");
    world
        .stack_mut()
        .add_worker_with(replica)
        .await
        .expect("a worker starts");
    until("the old entry to be removed", async || {
        let left: Vec<_> = entries(&world, "actor=service:old").await;
        let left: Vec<_> = left
            .iter()
            .map(|entry| text(entry, "subject").to_owned())
            .collect();
        (left == ["9"]).then_some(()).ok_or_else(|| format!("{left:?}"))
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn each_entry_is_written_out_once_by_one_of_the_workers() {
    let world = setup()
        .replicas(1, 2)
        .worker_env("AUDIT_LOG_STDOUT", "true")
        .start()
        .await;
    let organization = world.organization().await;
    let logs = || [0, 1].map(|index| world.stack().worker(index).log()).concat();
    let written = || {
        let logs = logs();
        let lines = logs
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines
            .filter(|line| line["organization_id"] == json!(organization.id))
            .collect::<Vec<_>>()
    };
    until("both changes to be written", async || {
        let count = written().len();
        (count >= 2).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;
    let listed = entries(&world, &format!("organization_id={}", organization.id)).await;
    let mut written = written();
    written.sort_by_key(|entry| text(entry, "at").to_owned());
    written.reverse();
    assert_eq!(written, listed);
    world.finish().await;
}
