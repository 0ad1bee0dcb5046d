//! The page: its address, its settings, and who may embed it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{session, tenant};
use crate::calls::{json as read, request, text};
use crate::setup;

#[tokio::test]
async fn the_portals_page_names_those_that_may_embed_it() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("PUBLIC_URL", "https://events.example.com")
        .start()
        .await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme").await;
    let made = session(&world, &organization, "acme", json!({})).await;
    let (page, token) = text(&made, "url")
        .split_once("#token=")
        .expect("the token is in the fragment");
    assert_eq!(token, text(&made, "token"));
    let path = page
        .strip_prefix("https://events.example.com")
        .expect("the public address");
    let policy = async || {
        let answer = world.http().get(world.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let header = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        (header, answer.text().await.unwrap())
    };
    let (header, _) = policy().await;
    assert!(
        header.ends_with("; frame-ancestors 'none'") && !header.contains("unsafe"),
        "{header}"
    );
    let put = |body: &Value| request(&world, 0, Method::PUT, "/v1/portal", &organization.key).json(body);
    for (field, wrong) in [
        (
            "origins[0]",
            json!({"origins": ["https://a.example; script-src *"]}),
        ),
        ("logo", json!({"logo": "data:text/html;base64,AAAA"})),
        ("primary_color", json!({"primary_color": "red"})),
    ] {
        let answer: Value = put(&wrong).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["errors"][0]["field"], field, "{answer}");
    }
    let logo = format!(
        "data:image/svg+xml;base64,{}",
        data_encoding::BASE64.encode(&vec![b' '; 64 * 1024])
    );
    let settings = json!({"name": "Acme", "origins": ["https://app.example.com", "http://127.0.0.1:3000"], "logo": logo});
    read(put(&settings)).await;
    let (header, page) = policy().await;
    assert!(
        header.ends_with("; frame-ancestors https://app.example.com http://127.0.0.1:3000"),
        "{header}"
    );
    assert!(page.contains(r#"content="https://app.example.com http://127.0.0.1:3000""#));
    let shown = read(request(&world, 0, Method::GET, "/v1/portal", &organization.key)).await;
    assert_eq!(shown["logo"], settings["logo"]);
    let log = "/admin/v1/audit-log?kind=portal";
    let log = read(request(&world, 0, Method::GET, log, world.stack().admin_token())).await;
    let entry = &log["data"][0];
    assert_eq!(
        (&entry["actor"], &entry["action"], &entry["subject"]),
        (
            &json!(format!("key:{}", &organization.key[8..24])),
            &json!("made"),
            &json!(organization.id)
        )
    );
    assert_eq!(
        (&entry["after"]["origins"], &entry["after"]["logo"]),
        (&settings["origins"], &json!("(picture)"))
    );
    for unknown in [format!("{path}A"), "/portal/AAAA".to_owned()] {
        let answer = world.http().get(world.url(&unknown)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{unknown}");
    }
    world.finish().await;
}
