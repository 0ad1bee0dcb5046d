use std::collections::BTreeMap;

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
