//! Secrets of an endpoint: shown once, replaced, and kept for an overlap.

use reqwest::Method;
use serde_json::{Value, json};

use super::{CANARY, everything, make, path_of};
use crate::calls::{answer, call, json};
use crate::{setup, world};

#[tokio::test]
async fn secrets_and_header_values_are_shown_to_nobody_again() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("RUST_LOG", "info,ingest_api=trace,shared=trace")
        .start()
        .await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let rotate = call(&world, &owner, Method::POST, &format!("{path}/rotate-secret"));
    let rotated = json(rotate).await;
    let secrets = [&made, &rotated].map(|each| each["secret"].as_str().unwrap().to_owned());
    assert_ne!(secrets[0], secrets[1]);
    let wrong = call(&world, &owner, Method::PATCH, &path)
        .json(&json!({"headers": {"Host": CANARY, "X-A": format!("{CANARY}\r\n")}}));
    let mut places = vec![
        made["header_names"].to_string(),
        json(call(&world, &owner, Method::GET, &path)).await.to_string(),
        json(call(&world, &owner, Method::GET, "")).await.to_string(),
        answer(wrong).await,
        world.stack().ingest(0).log(),
    ];
    let rows = sqlx::query_scalar::<_, String>("select endpoints::text from endpoints");
    places.extend(rows.fetch_all(world.database()).await.unwrap());
    let hex = |text: &str| {
        text.bytes()
            .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    for place in places {
        for secret in secrets.iter().map(String::as_str).chain([CANARY]) {
            let bare = secret.trim_start_matches("whsec_");
            assert!(!place.contains(bare) && !place.contains(&hex(bare)), "{place}");
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_replaced_secret_stays_for_the_overlap() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &json!({"url": "https://example.com/"})).await;
    let path = path_of(&made);
    let rotate =
        |body: Value| call(&world, &owner, Method::POST, &format!("{path}/rotate-secret")).json(&body);
    let stored = async || {
        let query = sqlx::query_as::<_, (Vec<u8>, Option<Vec<u8>>, Option<f64>)>(
            "select secret, previous_secret,
                    extract(epoch from previous_secret_expires_at - now())::float8 from endpoints",
        );
        query.fetch_one(world.database()).await.unwrap()
    };
    let (first, ..) = stored().await;
    let rotated = call(&world, &owner, Method::POST, &format!("{path}/rotate-secret"));
    let rotated = rotated.send().await.unwrap();
    assert_eq!(rotated.status(), 201);
    let rotated: Value = rotated.json().await.unwrap();
    assert_ne!(rotated["secret"], made["secret"]);
    let (second, previous, seconds) = stored().await;
    assert_eq!(previous, Some(first));
    assert!((86_300.0..=86_400.0).contains(&seconds.unwrap()), "{seconds:?}");
    assert!(rotated["previous_secret_expires_at"].is_string(), "{rotated}");

    let own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let rotated = json(rotate(json!({"secret": own, "overlap_seconds": 60}))).await;
    assert_eq!(rotated["secret"], own);
    assert_eq!(stored().await.1, Some(second));
    let rotated = json(rotate(json!({"overlap_seconds": 0}))).await;
    let (_, previous, seconds) = stored().await;
    assert_eq!(
        (previous, seconds),
        (None, None),
        "nothing of the old one is left"
    );
    assert!(rotated["previous_secret_expires_at"].is_null());

    insta::assert_snapshot!(answer(rotate(json!({"secret": "whsec_short", "overlap_seconds": 604_801}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: overlap_seconds, secret","errors":[{"field":"overlap_seconds","detail":"must be 0 to 604800"},{"field":"secret","detail":"not `whsec_` followed by 24 to 64 bytes in base64"}]}
    "#);
    let pull = path_of(&make(&world, &owner, &json!({"kind": "pull"})).await);
    let rotate = call(&world, &owner, Method::POST, &format!("{pull}/rotate-secret"));
    insta::assert_snapshot!(answer(rotate).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `pull`: nothing is signed"}
    "#);
    world.finish().await;
}
