//! An event that is not sent: what filters and templates are tried out on.

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::name::Tenant;
use utoipa::ToSchema;

use crate::domain::form::field_errors::FieldErrors;
use crate::event::check_any_event_type;
use crate::event::json::check_depth;

/// An event that is not sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SampleEvent {
    /// Its type, which may be one of Penstock's own.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    pub event_type: String,
    /// Whose event it is.
    pub tenant: Option<Tenant>,
    /// The payload: any JSON, up to 64 levels deep.
    #[schema(value_type = serde_json::Value)]
    pub data: Box<RawValue>,
}

impl SampleEvent {
    /// Tells each wrong field, below the field `event`.
    pub(crate) fn check(&self, errors: &mut FieldErrors) {
        errors.check("event.type", check_any_event_type(&self.event_type));
        errors.check("event.data", check_depth(self.data.get()));
    }
}
