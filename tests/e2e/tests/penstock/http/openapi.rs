//! The OpenAPI document is what the API does: routes, answers, and who may see what.

use std::io::Read as _;

use e2e::{Event, Organization, World};
use flate2::read::GzDecoder;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::setup;

/// Methods that OpenAPI knows.
const METHODS: [&str; 6] = ["get", "post", "put", "patch", "delete", "options"];

pub(crate) async fn document(world: &World) -> Value {
    let response = world
        .http()
        .get(world.url("/openapi.json"))
        .send()
        .await
        .expect("ingest-api answers");
    response.json().await.expect("the document is JSON")
}

/// Every path and method of the document.
pub(crate) fn operations(document: &Value) -> Vec<(&str, &str, &Map<String, Value>)> {
    let paths = document["paths"].as_object().expect("the document has paths");
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().expect("a path has operations");
        let methods = METHODS
            .iter()
            .filter_map(move |method| Some((*method, item.get(*method)?.as_object()?)));
        methods.map(move |(method, operation)| (path.as_str(), method, operation))
    });
    operations.collect()
}

#[tokio::test]
async fn every_operation_has_its_own_id_and_is_routed() {
    let world = setup().replicas(1, 0).start().await;
    let document = document(&world).await;
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    let mut ids: Vec<_> = operations
        .iter()
        .map(|(.., operation)| operation["operationId"].as_str())
        .collect();
    ids.sort_unstable();
    assert!(ids.windows(2).all(|pair| pair[0] != pair[1]), "{ids:?}");
    for (path, method, _) in operations {
        let url = world.url(&path.replace('{', "%7B").replace('}', "%7D"));
        let method: Method = method.to_uppercase().parse().unwrap();
        let status = world
            .http()
            .request(method.clone(), url)
            .send()
            .await
            .unwrap()
            .status();
        assert!(
            status != 405 && status != 404 || path.starts_with("/admin") && status == 401,
            "{method} {path}: {status}"
        );
    }
    let page = world.http().get(world.url("/docs/")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    world.finish().await;
}

#[tokio::test]
async fn the_page_that_shows_the_document_is_sent_plain_to_who_takes_no_gzip() {
    let world = setup().replicas(1, 0).start().await;
    for (file, is_kept_zipped) in [
        ("", true),
        ("swagger-ui.css", true),
        ("swagger-initializer.js", false),
    ] {
        let url = world.url(&format!("/docs/{file}"));
        let plain = world.http().get(&url).send().await.unwrap();
        assert_eq!(plain.status(), 200, "{file}");
        assert!(!plain.headers().contains_key("content-encoding"), "{file}");
        let plain = plain.bytes().await.unwrap();
        let zipped = world.http().get(&url).header("accept-encoding", "gzip");
        let zipped = zipped.send().await.unwrap();
        let is_zipped = zipped.headers().contains_key("content-encoding");
        assert_eq!(is_zipped, is_kept_zipped, "{file}");
        let zipped = zipped.bytes().await.unwrap();
        if is_zipped {
            let mut unzipped = Vec::new();
            GzDecoder::new(&*zipped).read_to_end(&mut unzipped).unwrap();
            assert!(plain == unzipped, "{file} is another one");
        } else {
            assert_eq!(zipped, plain);
        }
    }
    let none = world.http().get(world.url("/docs/none")).send().await.unwrap();
    assert_eq!(none.status(), 404);
    world.finish().await;
}

/// Calls every operation under `/v1` whose path holds an id, with ids of another organisation.
#[tokio::test]
async fn another_organisations_ids_name_nothing_on_any_route() {
    let mut world = setup().start().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&owner, &receiver).await.id.to_string();
    let event = world.producer(&owner).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    let foreign = [event.to_string(), endpoint, owner.key[8..24].to_owned()];

    let document = document(&world).await;
    let (mut called, mut own) = (0, 0);
    for (path, method, operation) in operations(&document) {
        // A `PUT` makes something of the caller's own.
        if !path.starts_with("/v1/") || method == "put" {
            continue;
        }
        for path in with_ids(path, &foreign) {
            let status = call(&world, &stranger, method, &path, operation).await;
            assert_eq!(status, 404, "{method} {path} of another organisation");
            if method == "get" && call(&world, &owner, method, &path, operation).await == 200 {
                own += 1;
            }
            called += 1;
        }
    }
    assert!(called >= 30, "there are routes with ids");
    assert!(own >= 4, "the owner sees something under the same paths");
    world.finish().await;
}

/// A path with every combination of these ids in place of its parameters; nothing when it has none.
pub(crate) fn with_ids(path: &str, ids: &[String]) -> Vec<String> {
    let Some((start, rest)) = path.split_once('{') else {
        return Vec::new();
    };
    let (_, end) = rest.split_once('}').expect("a parameter ends");
    let filled = ids.iter().map(|id| format!("{start}{id}{end}"));
    let filled = filled.flat_map(|path| match with_ids(&path, ids) {
        further if further.is_empty() => vec![path],
        further => further,
    });
    filled.collect()
}

pub(crate) async fn call(
    world: &World,
    organization: &Organization,
    method: &str,
    path: &str,
    operation: &Map<String, Value>,
) -> u16 {
    let method: Method = method
        .to_uppercase()
        .parse()
        .expect("a method of the document is one");
    let request = world
        .http()
        .request(method, world.url(path))
        .bearer_auth(&organization.key);
    let request = if operation.contains_key("requestBody") {
        request.json(&json!({}))
    } else {
        request
    };
    request
        .send()
        .await
        .expect("ingest-api answers")
        .status()
        .as_u16()
}
