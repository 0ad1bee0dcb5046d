//! `/admin/v1/audit-log`: who changed what.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::id::OrgId;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::app::App;
use crate::domain::accounts::audit::{AuditAction, AuditKind};
use crate::domain::cursor::Cursor;
use crate::http::admission::callers::AdminReader;
use crate::http::error::ApiError;
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{AdminRefusals, ListRefusals};
use crate::routes::page::{ThisPage, page};
use crate::store::{AuditFilter, AuditRow};

/// Which entries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditParams {
    /// Only what is this organisation's.
    #[param(value_type = Option<String>, format = Uuid)]
    organization_id: Option<OrgId>,
    /// Only such things.
    #[param(inline)]
    kind: Option<AuditKind>,
    /// Only the thing with this id.
    subject: Option<String>,
    /// Only what this one did, as entries name it.
    actor: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most entries on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

/// A change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditEntry {
    /// The entry's id.
    id: Uuid,
    /// When it was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    at: OffsetDateTime,
    /// Whose thing it is.
    #[schema(value_type = String, format = Uuid)]
    organization_id: OrgId,
    /// Of which tenant.
    tenant: Option<String>,
    /// Who did it: `key:` and a key's id, `portal:` and the id of a portal session, `admin:` and the name of an admin token,
    /// or `signup`. `service:` and a program when nobody asked for it, or when it was done by SQL.
    actor: String,
    /// The address that the request came from, which may be a proxy's.
    address: Option<String>,
    /// What was changed.
    kind: AuditKind,
    /// Its id.
    subject: String,
    /// What was done.
    action: AuditAction,
    /// The columns that were changed, as they were; null for what is new. `"(secret)"` stands for a secret.
    #[schema(value_type = Option<serde_json::Value>)]
    before: Option<Box<RawValue>>,
    /// The same columns as they are now; null for what is gone.
    #[schema(value_type = Option<serde_json::Value>)]
    after: Option<Box<RawValue>>,
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditPage {
    /// The changes.
    data: Vec<AuditEntry>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Lists the changes of organisations, keys, endpoints, tenants and portals, newest first.
///
/// A request looks at 10 000 changes at most: of the `subject`, or else of the `actor`, or else of the organisation. So a page
/// may hold fewer than `limit`, or none, and still have a next page.
#[utoipa::path(
    get,
    path = "/admin/v1/audit-log",
    operation_id = "list_audit_log",
    tag = "admin",
    security(("admin_token" = [])),
    params(AuditParams),
    responses(
        (status = 200, description = "A page of changes.", body = AuditPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        AdminRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    _: AdminReader,
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<AuditParams>,
) -> Result<(HeaderMap, Json<AuditPage>), ApiError> {
    let page = page(params.cursor.as_deref(), params.limit)?;
    let without_nul = |text: Option<String>| text.map(|text| text.replace('\0', "\u{fffd}"));
    let filter = AuditFilter {
        org_id: params.organization_id,
        kind: params.kind,
        // Postgres knows no NUL, so no entry has one.
        subject: without_nul(params.subject),
        actor: without_nul(params.actor),
    };
    let (mut rows, end) = app.store.list_audit_log(&filter, &page).await?;
    let next_cursor = page.cut(&mut rows, |last| Cursor {
        at: last.at,
        id: last.id,
    });
    let next_cursor = next_cursor.or_else(|| end.map(|end| end.encode()));
    let data = rows.into_iter().map(entry).collect::<Result<_, _>>();
    let data = data.map_err(|error: serde_json::Error| ApiError::Internal(error.into()))?;
    let links = this_page.links(next_cursor.as_deref());
    Ok((links, Json(AuditPage { data, next_cursor })))
}

fn entry(row: AuditRow) -> Result<AuditEntry, serde_json::Error> {
    let columns = |text: Option<String>| text.map(RawValue::from_string).transpose();
    Ok(AuditEntry {
        id: row.id,
        at: row.at,
        organization_id: row.org_id,
        tenant: row.tenant,
        actor: row.actor,
        address: row.address,
        kind: row.kind,
        subject: row.subject,
        action: row.action,
        before: columns(row.before)?,
        after: columns(row.after)?,
    })
}
