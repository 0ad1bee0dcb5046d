//! The form of this API's errors.

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ErrorText;

/// The body of an error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LegacyError {
    /// What is wrong, for a person.
    pub error: String,
}

/// Gives an error of the main API the form of this one. Status and headers stay.
pub(crate) async fn rewrite(mut response: Response) -> Response {
    if let Some(ErrorText(error)) = response.extensions().get().cloned() {
        *response.body_mut() = Json(LegacyError { error }).into_response().into_body();
        let json = HeaderValue::from_static(shared::domain::event::JSON);
        response.headers_mut().insert(CONTENT_TYPE, json);
    }
    response
}
