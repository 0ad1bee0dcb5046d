//! The contract: an OpenAPI 3.1 document, made from the handlers, and a page to read it.

use axum::Router;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use crate::http::error::Problem;
use crate::routes::legacy::LegacyError;
use crate::routes::{endpoints, events, keys, legacy, organizations, pull};

/// Every path of the API that is part of its contract.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Penstock ingest API",
        description = "Takes events in and delivers them as signed webhooks. Errors are RFC 9457 problems."
    ),
    paths(
        events::create::create,
        events::batch::create,
        events::read::list,
        events::read::show,
        events::data::remove,
        events::replay::replay,
        events::replay::retry,
        endpoints::manage::create,
        endpoints::list::list,
        endpoints::manage::show,
        endpoints::manage::change,
        endpoints::manage::delete,
        endpoints::secret::rotate,
        endpoints::test_event::send,
        endpoints::deliveries::list,
        endpoints::deliveries::summary,
        endpoints::recoveries::create,
        endpoints::recoveries::list,
        endpoints::recoveries::show,
        endpoints::recoveries::cancel,
        endpoints::manage::create_as_admin,
        keys::own::create,
        keys::own::list,
        keys::own::revoke,
        keys::own::rotate,
        pull::pull,
        pull::acknowledge,
        legacy::keys::generate,
        legacy::keys::list,
        legacy::keys::rotate,
        legacy::events::create,
        legacy::inbox::list,
        legacy::inbox::acknowledge,
        legacy::webhook::configure,
        legacy::health,
        organizations::create,
        organizations::list,
        organizations::show,
        organizations::change,
        keys::admin::create,
        keys::admin::list,
        keys::admin::revoke,
    ),
    components(schemas(Problem, LegacyError)),
    modifiers(&Credentials),
    tags(
        (name = "events", description = "Sending events, and reading what became of them."),
        (name = "endpoints", description = "Where events are delivered."),
        (name = "keys", description = "What requests are authenticated with."),
        (name = "zapier", description = "The Zapier Triggers API, for clients of the system that had it. Its errors are `{\"error\": …}`."),
        (name = "admin", description = "For the operator, with the admin token."),
    )
)]
pub struct ApiDoc;

/// How requests are authenticated.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")));
        components.add_security_scheme("api_key", header);
        let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        components.add_security_scheme("bearer", bearer());
        components.add_security_scheme("admin_token", bearer());
    }
}

/// The document itself.
pub(crate) fn document() -> serde_json::Value {
    serde_json::to_value(ApiDoc::openapi())
        .expect("a document without maps of other keys than strings is JSON")
}

/// `/openapi.json`, and `/docs`, which needs nothing from elsewhere.
pub fn routes() -> Router {
    SwaggerUi::new("/docs")
        .url("/openapi.json", ApiDoc::openapi())
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoints_health_is_described_as_what_it_is() {
        let document = serde_json::to_value(ApiDoc::openapi()).unwrap();
        let schemas = &document["components"]["schemas"];
        let health = &schemas["Endpoint"]["properties"]["health"]["$ref"];
        let name = health.as_str().unwrap().rsplit('/').next().unwrap();
        let fields: Vec<_> = schemas[name]["properties"].as_object().unwrap().keys().collect();
        let expected = [
            "circuit_open_until",
            "consecutive_failures",
            "failing_since",
            "state",
        ];
        assert_eq!(fields, expected);
        let process = &schemas["ProcessHealth"]["properties"];
        assert!(process["status"].is_object(), "{schemas}");
    }

    #[test]
    fn an_operations_own_answer_takes_the_place_of_a_shared_one() {
        let document = serde_json::to_value(ApiDoc::openapi()).unwrap();
        let refusals = &document["paths"]["/v1/events/batch"]["post"]["responses"];
        assert_eq!(refusals["401"]["description"], "No valid API key.");
        let own = "The rate limit has less left than the batch costs.";
        assert_eq!(refusals["429"]["description"], own);
    }
}
