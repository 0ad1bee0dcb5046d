//! `/console`, `/portal/{address}` and their files, with what browsers are told about them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};

use super::files;
use crate::app::App;
use crate::http::error::ApiError;
use crate::http::request::extract::PathId;

/// What a page may load: its own files, and pictures that stand in its data. Nothing inline, nothing of other hosts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const PERMISSIONS_POLICY: HeaderName = HeaderName::from_static("permissions-policy");

/// The console, which no page may embed.
pub(super) fn console(headers: &HeaderMap) -> Result<Response, ApiError> {
    let file = files::find("console.html").ok_or(ApiError::NotFound)?;
    with_policy(file.answer(headers), "'none'")
}

/// A file of the pages.
pub(super) fn file(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let file = files::find(name).filter(|file| !file.is_page());
    Ok(file.ok_or(ApiError::NotFound)?.answer(headers))
}

/// The portal of an organisation, which that organisation's pages may embed. It names them to its script too, which talks to
/// no others.
pub(super) async fn portal(
    State(app): State<Arc<App>>,
    PathId(address): PathId<String>,
) -> Result<Response, ApiError> {
    let org_id = app
        .portal_tokens
        .organization(&address)
        .ok_or(ApiError::NotFound)?;
    let origins = app.store.portal_settings(org_id).await?.origins;
    let file = files::find("portal.html").ok_or(ApiError::NotFound)?;
    let page = String::from_utf8_lossy(file.plain()).replace("{{origins}}", &origins.join(" "));
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if origins.is_empty() {
        return with_policy(response, "'none'");
    }
    with_policy(response, &origins.join(" "))
}

/// Adds what the browser is to keep the page to. `ancestors` may embed it.
///
/// # Errors
/// When what is stored of them is no text of a header.
fn with_policy(mut response: Response, ancestors: &str) -> Result<Response, ApiError> {
    let policy = HeaderValue::try_from(format!("{POLICY}; frame-ancestors {ancestors}"));
    let policy = policy.map_err(|error| ApiError::Internal(error.into()))?;
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    // Browsers that know `frame-ancestors` go by it alone; others show no frame at all.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(
        PERMISSIONS_POLICY,
        HeaderValue::from_static("camera=(), geolocation=(), microphone=(), payment=()"),
    );
    Ok(response)
}
