//! Listing tenants.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use shared::domain::name::Tenant;
use utoipa::{IntoParams, ToSchema};

use super::view;
use crate::app::App;
use crate::domain::accounts::tenant::TenantView;
use crate::http::admission::callers::OrganizationManager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals};
use crate::routes::page::{ThisPage, limit};
use crate::store::TenantFilter;

/// Which tenants to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Only tenants whose id begins so.
    #[param(max_length = 255)]
    prefix: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most tenants on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

/// A page of tenants, by their ids.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TenantPage {
    /// The tenants.
    data: Vec<TenantView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Lists the organisation's tenants, by their ids.
#[utoipa::path(
    get,
    path = "/v1/tenants",
    operation_id = "list_tenants",
    tag = "tenants",
    security(("api_key" = []), ("bearer" = [])),
    params(ListParams),
    responses(
        (status = 200, description = "A page of tenants.", body = TenantPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals,
        (status = 404, description = "The key is bound to a tenant.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<ListParams>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<(HeaderMap, Json<TenantPage>), ApiError> {
    let limit = limit(params.limit)?;
    let after = params.cursor.as_deref().map(decode_cursor).transpose()?;
    let prefix = params.prefix.as_deref().unwrap_or_default();
    if prefix.contains('\0') {
        return Err(ApiError::invalid("prefix", "must not contain NUL"));
    }
    let filter = TenantFilter {
        org_id,
        prefix,
        after: after.as_ref().map_or("", Tenant::as_str),
        limit,
    };
    let mut rows = app.store.list_tenants(&filter).await?;
    let length = usize::try_from(limit).unwrap_or(usize::MAX);
    let next_cursor = (rows.len() > length).then(|| {
        rows.truncate(length);
        BASE64URL_NOPAD.encode(rows[length - 1].uid.as_str().as_bytes())
    });
    let links = this_page.links(next_cursor.as_deref());
    let data = rows.into_iter().map(view).collect();
    Ok((links, Json(TenantPage { data, next_cursor })))
}

fn decode_cursor(text: &str) -> Result<Tenant, ApiError> {
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    let uid = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let tenant = uid.and_then(|uid| uid.parse().ok());
    tenant.ok_or_else(|| ApiError::invalid("cursor", "is not a `next_cursor`"))
}
