//! The schema of a new endpoint, for the OpenAPI document.

use serde_json::Value;
use shared::domain::endpoint::EndpointKind;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::routes::endpoints::form::EndpointForm;
use crate::routes::endpoints::form::retry::RetryForm;
use crate::routes::endpoints::form::schema::pattern;
use crate::routes::openapi::narrowed;

/// The form of a new endpoint. One whose deliveries are sent needs a URL, and one whose deliveries are fetched has fewer settings.
#[derive(Debug)]
pub(crate) enum NewEndpoint {}

impl PartialSchema for NewEndpoint {
    fn schema() -> RefOr<Schema> {
        let sent = ObjectBuilder::new()
            .property("kind", kinds(true))
            .property("url", ObjectBuilder::new().schema_type(Type::String))
            .required("url");
        let fetched = ObjectBuilder::new()
            .property("kind", kinds(false))
            .required("kind")
            .property("retry", RetryForm::schema_of_fetched())
            .property_names(Some(pattern(
                "^(kind|tenant|all_tenants|create_tenant|description|event_types|filter|format|retry|max_in_flight|rate_limit_per_second|status)$",
            )));
        let either = OneOfBuilder::new().item(sent).item(fetched);
        narrowed::schema::<EndpointForm>(either)
    }
}

impl ToSchema for NewEndpoint {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        narrowed::add::<EndpointForm>(schemas);
    }
}

/// The kinds whose deliveries are sent, or those whose are fetched. Null is the default, which is sent.
fn kinds(are_sent: bool) -> ObjectBuilder {
    let kinds = EndpointKind::ALL.iter().filter(|kind| kind.is_sent() == are_sent);
    let names = kinds.map(|kind| Value::from(kind.as_str()));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(names.chain(are_sent.then_some(Value::Null))))
}
