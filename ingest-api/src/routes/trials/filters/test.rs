//! `POST /v1/filters/test`.

use axum::Json;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::name::Tenant;
use utoipa::ToSchema;

use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::object;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::routes::endpoints::form::schema;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals};
use crate::routes::trials::filters::judge::{Judge, Sample, Verdict};
use crate::routes::trials::sample_event::SampleEvent;

/// A filter and an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "filter": {"/total": {"gte": 100}},
    "event": {"type": "order.created", "data": {"total": 120}},
}))]
pub(crate) struct FilterTest {
    /// A filter, as endpoints have one.
    #[schema(schema_with = schema::required_filter)]
    filter: Box<RawValue>,
    /// The event that it is asked about.
    #[serde(deserialize_with = "object::read")]
    event: SampleEvent,
}

/// Tells whether a filter lets an event pass, and which of its conditions decides. Nothing is stored or sent.
#[utoipa::path(
    post,
    path = "/v1/filters/test",
    operation_id = "test_filter",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    request_body = FilterTest,
    responses(
        (status = 200, description = "What workers would decide.", body = Verdict),
        KeyRefusals, FormRefusals,
    ),
)]
pub(crate) async fn test(_: Manager, mut body: RequestBody) -> Result<Json<Verdict>, ApiError> {
    let FilterTest { filter, event } = body.form().await?;
    let judge = Judge::new(Some(filter.get()));
    let mut errors = FieldErrors::default();
    errors.check("filter", judge.as_ref().map(|_| ()).map_err(ToString::to_string));
    event.check(&mut errors);
    errors.finish()?;
    let judge = judge.map_err(|error| ApiError::invalid("filter", error.to_string()))?;
    let sample = Sample {
        event_type: &event.event_type,
        tenant: event.tenant.as_ref().map(Tenant::as_str),
        data: Some(event.data.get().as_bytes()),
    };
    Ok(Json(judge.judge(sample).await))
}
