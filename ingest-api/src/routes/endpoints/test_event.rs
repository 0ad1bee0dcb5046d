//! `POST /v1/endpoints/{id}/test`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::clock::UnixMicros;
use shared::domain::id::EndpointId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::form::field_errors::FieldErrors;
use crate::event::json::check_depth;
use crate::event::{NewEvent, check_event_type};
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::events::create::Accepted;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};

/// The event to send.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TestEvent {
    /// `endpoint.test` unless given.
    #[serde(rename = "type")]
    #[schema(min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: Option<String>,
    /// The payload; the endpoint's id unless given.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

/// Sends an event to this endpoint alone, whatever its filters say. The event is stored and delivered like any other.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/test",
    operation_id = "test_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = Option<TestEvent>,
    responses(
        (status = 202, description = "The event is on disk.", body = Accepted),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint is disabled, or its tenant is.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The event cannot be stored now; try again after `Retry-After`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn send(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let endpoint = app.store.find_brief_endpoint(&realm, id).await?;
    let endpoint = endpoint.ok_or(ApiError::NotFound)?;
    if !endpoint.enabled {
        return Err(ApiError::Conflict("the endpoint is disabled"));
    }
    let test: TestEvent = body.optional_form().await?;
    let mut event = test.event(id)?;
    event.tenant = endpoint.tenant.map(|tenant| String::from(tenant).into());
    let (id, encoded) = event.encode(realm.org_id, UnixMicros::now(), body.trace().context());
    let enqueued = app.publisher.enqueue(encoded);
    body.publishing(id).until_stored(enqueued).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { id })))
}

impl TestEvent {
    fn event(self, endpoint_id: EndpointId) -> Result<NewEvent<'static>, ApiError> {
        let event_type = self.event_type.unwrap_or_else(|| "endpoint.test".to_owned());
        let data = self.data.map_or_else(
            || format!(r#"{{"endpoint_id":"{endpoint_id}"}}"#),
            |data| data.get().to_owned(),
        );
        let mut errors = FieldErrors::default();
        errors.check("type", check_event_type(&event_type));
        errors.check("data", check_depth(&data));
        errors.finish()?;
        Ok(NewEvent {
            only_to: Some(endpoint_id),
            ..NewEvent::of_json(event_type, data.into_bytes())
        })
    }
}
