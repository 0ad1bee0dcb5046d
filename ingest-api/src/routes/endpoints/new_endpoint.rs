//! The schema of a new endpoint, for the OpenAPI document.

use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::routes::endpoints::form::EndpointForm;
use crate::routes::endpoints::schema::{named, pattern};
use crate::routes::narrowed;

/// The form of a new endpoint. The kind `push` needs a URL, and the kind `pull` has fewer settings.
#[derive(Debug)]
pub(crate) enum NewEndpoint {}

impl PartialSchema for NewEndpoint {
    fn schema() -> RefOr<Schema> {
        let push = ObjectBuilder::new()
            .property("kind", kinds([Some("push"), None]))
            .property("url", ObjectBuilder::new().schema_type(Type::String))
            .required("url");
        let pull = ObjectBuilder::new()
            .property("kind", kinds([Some("pull")]))
            .required("kind")
            .property("retry", named("^(attempts|max_age_seconds)$"))
            .property_names(Some(pattern(
                "^(kind|tenant|all_tenants|create_tenant|description|event_types|filter|format|retry|max_in_flight|rate_limit_per_second|status)$",
            )));
        let either = OneOfBuilder::new().item(push).item(pull);
        narrowed::schema::<EndpointForm>(either)
    }
}

impl ToSchema for NewEndpoint {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        narrowed::add::<EndpointForm>(schemas);
    }
}

fn kinds<const N: usize>(names: [Option<&str>; N]) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(names.map(serde_json::Value::from)))
}
