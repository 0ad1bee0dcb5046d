use std::collections::BTreeMap;

use axum::http::Method;
use utoipa_axum::router::UtoipaMethodRouter;
use utoipa_axum::routes;

use super::*;

/// The name of two schemas that differ. The document would hold the later one, for both.
fn collision(operations: impl Iterator<Item = UtoipaMethodRouter<Arc<App>>>) -> Option<String> {
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    let shared = openapi::document(std::iter::empty())
        .components
        .unwrap_or_default();
    let schemas = operations.flat_map(|(schemas, ..)| schemas).chain(shared.schemas);
    for (name, schema) in schemas {
        let schema = serde_json::to_value(schema).unwrap();
        if known.get(&name).is_some_and(|other| *other != schema) {
            return Some(name);
        }
        known.insert(name, schema);
    }
    None
}

#[test]
fn no_two_schemas_have_one_name() {
    assert_eq!(collision(contract()), None);
}

mod other {
    #[derive(serde::Serialize, utoipa::ToSchema)]
    pub(super) struct Health {
        other: bool,
    }

    #[utoipa::path(get, path = "/other", responses((status = 200, body = Health)))]
    pub(super) async fn health() {}
}

#[test]
fn a_second_schema_of_a_name_is_found() {
    let operations = contract().chain([routes!(other::health)]);
    assert_eq!(collision(operations).as_deref(), Some("Health"));
}

#[test]
fn an_endpoints_health_is_described_as_what_it_is() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let health = &schemas["Endpoint"]["properties"]["health"]["$ref"];
    let name = health.as_str().unwrap().rsplit('/').next().unwrap();
    let fields: Vec<_> = schemas[name]["properties"].as_object().unwrap().keys().collect();
    let expected = [
        "circuit_open_until",
        "consecutive_failures",
        "failing_since",
        "state",
        "waiting_until",
    ];
    assert_eq!(fields, expected);
    let process = &schemas["ProcessHealth"]["properties"];
    assert!(process["status"].is_object(), "{schemas}");
}

#[test]
fn an_operations_own_answer_takes_the_place_of_a_shared_one() {
    let document = document();
    let refusals = &document["paths"]["/v1/events/batch"]["post"]["responses"];
    assert_eq!(refusals["401"]["description"], "No valid API key.");
    let own = "The batch has more events than the rate limit has requests left, or the quota of the month is used up.";
    assert_eq!(refusals["429"]["description"], own);
}

#[test]
fn a_portal_session_may_use_these_routes_with_these_capabilities_and_no_others() {
    let (document, routes) = (document(), portal_routes());
    let mut allowed = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method: Method = method.to_uppercase().parse().unwrap();
            if let Some(needed) = routes.needed(&method, path) {
                allowed.push(format!("{method} {path} {needed:?}"));
            }
        }
    }
    allowed.sort();
    insta::assert_snapshot!(allowed.join("\n"), @r"
    DELETE /v1/endpoints/{id} [ManageEndpoints]
    DELETE /v1/endpoints/{id}/recoveries/{recovery_id} [Replay]
    GET /v1/dead-deliveries [View]
    GET /v1/endpoints [View]
    GET /v1/endpoints/{id} [View]
    GET /v1/endpoints/{id}/deliveries [View]
    GET /v1/endpoints/{id}/deliveries/summary [View]
    GET /v1/endpoints/{id}/public-key [View]
    GET /v1/endpoints/{id}/recoveries [View]
    GET /v1/endpoints/{id}/recoveries/{recovery_id} [View]
    GET /v1/endpoints/{id}/stats [View]
    GET /v1/events [View]
    GET /v1/events/{id} [View]
    GET /v1/portal/session []
    GET /v1/stats [View]
    GET /v1/tail [View]
    PATCH /v1/endpoints/{id} [ManageEndpoints]
    POST /v1/endpoints [ManageEndpoints]
    POST /v1/endpoints/{id}/filter/preview [View, ManageEndpoints]
    POST /v1/endpoints/{id}/recover [Replay]
    POST /v1/endpoints/{id}/rotate-key [ManageEndpoints]
    POST /v1/endpoints/{id}/rotate-secret [ManageEndpoints, ViewSecrets]
    POST /v1/endpoints/{id}/test [ManageEndpoints]
    POST /v1/events/{id}/deliveries/{endpoint_id}/retry [Replay]
    POST /v1/events/{id}/replay [Replay]
    POST /v1/filters/test [ManageEndpoints]
    POST /v1/templates/test [ManageEndpoints]
    ");
}
