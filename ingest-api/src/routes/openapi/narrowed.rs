//! Schemas of forms for operations that require more than others do.

use utoipa::ToSchema;
use utoipa::openapi::schema::AllOfBuilder;
use utoipa::openapi::{Ref, RefOr, Schema};

/// The schema of a form, with further requirements.
pub(crate) fn schema<Form: ToSchema>(besides: impl Into<RefOr<Schema>>) -> RefOr<Schema> {
    let form = Ref::from_schema_name(Form::name());
    AllOfBuilder::new().item(form).item(besides).into()
}

/// Adds the form, which [`schema`] refers to, and all that it refers to.
pub(crate) fn add<Form: ToSchema>(schemas: &mut Vec<(String, RefOr<Schema>)>) {
    schemas.push((Form::name().into_owned(), Form::schema()));
    Form::schemas(schemas);
}
