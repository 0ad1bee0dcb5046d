//! `POST /v1/templates/test`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::event::Event;
use shared::domain::id::{EventId, OrgId};
use shared::domain::name::Tenant;
use shared::template::{Template, TemplateError};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::object;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals};
use crate::routes::trials::sample_event::SampleEvent;
use crate::routes::trials::templates::form::TemplateForm;

/// A template and an event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemplateTest {
    /// A template, as endpoints have one.
    #[serde(deserialize_with = "object::read")]
    template: TemplateForm,
    /// The event that it is to render.
    #[serde(deserialize_with = "object::read")]
    event: SampleEvent,
}

/// What a template makes of an event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Rendered {
    /// The body of the webhook.
    body: String,
    /// Its media type.
    content_type: String,
}

/// Renders a template as workers do. Nothing is stored or sent.
///
/// What is wrong with the template, for this event, is a 422 with its line.
#[utoipa::path(
    post,
    path = "/v1/templates/test",
    operation_id = "test_template",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    request_body = TemplateTest,
    responses(
        (status = 200, description = "The body that would be sent.", body = Rendered),
        KeyRefusals, FormRefusals,
    ),
)]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<Rendered>, ApiError> {
    let TemplateTest { template, event } = body.form().await?;
    let mut errors = FieldErrors::default();
    let read = template.read(&mut errors);
    event.check(&mut errors);
    errors.finish()?;
    // Without errors there is one.
    let (template, given) = read.ok_or_else(|| ApiError::invalid("template", "cannot be read"))?;
    let org_id = realm.org_id;
    let rendered = app
        .renders
        .take(org_id, realm.tenant.as_ref(), move || {
            render(&template, org_id, &event)
        })
        .await;
    let body = rendered.map_err(|error| ApiError::invalid("template.body", error.to_string()))?;
    Ok(Json(Rendered {
        body,
        content_type: given.content_type,
    }))
}

fn render(template: &Template, org_id: OrgId, event: &SampleEvent) -> Result<String, TemplateError> {
    let (now, data) = (UnixMicros::now(), event.data.get().as_bytes());
    template.render(&Event {
        tenant: event.tenant.as_ref().map(Tenant::as_str),
        ..Event::of_json(EventId::at(now), org_id, &event.event_type, now, data)
    })
}
