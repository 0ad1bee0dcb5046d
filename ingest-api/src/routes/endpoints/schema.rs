//! The schemas of the maps in an endpoint's form, for the OpenAPI document.

use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{Object, Schema};

/// A filter: conditions by JSON pointer.
pub(crate) fn filter() -> Schema {
    let scalar = || {
        let types = [Type::String, Type::Number, Type::Boolean, Type::Null];
        ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
    };
    let number = || ObjectBuilder::new().schema_type(Type::Number);
    let operators = ObjectBuilder::new()
        .property("eq", scalar())
        .property("ne", scalar())
        .property("in", ArrayBuilder::new().items(scalar()))
        .property("exists", ObjectBuilder::new().schema_type(Type::Boolean))
        .property("gt", number())
        .property("gte", number())
        .property("lt", number())
        .property("lte", number())
        .min_properties(Some(1))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    let condition: Schema = AnyOfBuilder::new().item(scalar()).item(operators).into();
    let filter = named("^(/([^~/]|~[01])*)*$")
        .description(Some(
            "JSON pointers into `data` and what must hold there: a value, or an object of `eq`, `ne`, `in`, `exists`, \
             `gt`, `gte`, `lt`, `lte`. A change replaces the whole filter.",
        ))
        .additional_properties(Some(condition))
        .min_properties(Some(1))
        .max_properties(Some(32));
    filter.into()
}

/// Request headers by name.
pub(crate) fn headers() -> Schema {
    let value = ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .max_length(Some(2_048));
    let headers = named("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
        .description(Some(
            "Further request headers, up to 20. In a change, a name with null is removed and those left out stay. Only for \
             the kind `push`.",
        ))
        .additional_properties(Some(Schema::from(value)))
        .max_properties(Some(20));
    headers.into()
}

/// An object whose names match a pattern, or null.
pub(crate) fn named(names: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .property_names(Some(pattern(names)))
}

/// A string that matches a pattern.
pub(crate) fn pattern(pattern: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .build()
}
