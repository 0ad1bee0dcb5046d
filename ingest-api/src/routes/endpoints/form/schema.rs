//! The schemas of the maps in an endpoint's form, for the OpenAPI document.

use utoipa::openapi::schema::{
    AdditionalProperties, AnyOfBuilder, ArrayBuilder, ObjectBuilder, SchemaType, Type,
};
use utoipa::openapi::{Object, Schema};

/// A filter, or null.
pub(crate) fn filter() -> Schema {
    filter_of(SchemaType::from_iter([Type::Object, Type::Null]))
}

/// A filter.
pub(crate) fn required_filter() -> Schema {
    filter_of(Type::Object.into())
}

/// Conditions by JSON pointer.
fn filter_of(schema_type: SchemaType) -> Schema {
    let scalar = || {
        let types = [Type::String, Type::Number, Type::Boolean, Type::Null];
        ObjectBuilder::new().schema_type(SchemaType::from_iter(types))
    };
    let number = || ObjectBuilder::new().schema_type(Type::Number);
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let operators = ObjectBuilder::new()
        .property("eq", scalar())
        .property("ne", scalar())
        .property("in", ArrayBuilder::new().items(scalar()))
        .property("exists", ObjectBuilder::new().schema_type(Type::Boolean))
        .property("gt", number())
        .property("gte", number())
        .property("lt", number())
        .property("lte", number())
        .property("prefix", text())
        .property("suffix", text())
        .property("contains", text())
        .property("ignore_case", ObjectBuilder::new().schema_type(Type::Boolean))
        .min_properties(Some(1))
        .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)));
    let condition: Schema = AnyOfBuilder::new().item(scalar()).item(operators).into();
    // Filters nest; the code that a client is generated with need not know how.
    let nested = || {
        ObjectBuilder::new()
            .schema_type(Type::Object)
            .min_properties(Some(1))
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(true)))
    };
    let list = || ArrayBuilder::new().items(nested()).min_items(Some(1));
    let filter = ObjectBuilder::new()
        .schema_type(schema_type)
        .property_names(Some(pattern("^((/([^~/]|~[01])*)*|type|tenant|any|all|not)$")))
        .description(Some(
            "JSON pointers into `data`, `type` or `tenant`, and what must hold there: a value, or an object of `eq`, `ne`, \
             `in`, `exists`, `gt`, `gte`, `lt`, `lte`, `prefix`, `suffix`, `contains`, `ignore_case`; `any` or `all` of a \
             list of filters; `not` a filter. Up to 64 conditions in all. A change replaces the whole filter.",
        ))
        .property("any", list())
        .property("all", list())
        .property("not", nested())
        .additional_properties(Some(condition))
        .min_properties(Some(1))
        .max_properties(Some(64));
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
