//! Listing endpoints.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Serialize;
use utoipa::ToSchema;

use super::Endpoint;
use crate::app::App;
use crate::domain::cursor::Cursor;
use crate::http::admission::callers::Manager;
use crate::http::answers::large_json::LargeJson;
use crate::http::error::ApiError;
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals};
use crate::routes::page::{TenantParams, ThisPage};

/// A page of endpoints, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointPage {
    /// The endpoints, disabled ones included.
    data: Vec<Endpoint>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Lists the organisation's endpoints, newest first.
#[utoipa::path(
    get,
    path = "/v1/endpoints",
    operation_id = "list_endpoints",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(TenantParams),
    responses(
        (status = 200, description = "A page of endpoints.", body = EndpointPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<TenantParams>,
    Manager { realm, .. }: Manager,
) -> Result<(HeaderMap, LargeJson), ApiError> {
    let page = params.page()?;
    let realm = realm.narrowed(params.tenant)?;
    let share = app.answers.reserve().await?;
    let mut rows = app.store.list_endpoints(&realm, &page).await?;
    let next_cursor = page.cut(&mut rows, |last| Cursor {
        at: last.created_at,
        id: last.id.as_uuid(),
    });
    let links = this_page.links(next_cursor.as_deref());
    let data = rows
        .into_iter()
        .map(|row| Endpoint::new(&app, row).map(Endpoint::in_list));
    let data = data.collect::<Result<_, _>>()?;
    Ok((links, LargeJson::new(EndpointPage { data, next_cursor }, share)?))
}
