//! `/v1/endpoints/{id}/recover` and `/recoveries`: finished deliveries of an endpoint become pending again, at a pace.
//! The API stores the recovery, and workers carry it out.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::delivery::{DeliveryStatus, RecoveryStatus};
use shared::domain::id::{EndpointId, OrgId, RecoveryId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::{check_owner, find};
use crate::app::App;
use crate::domain::cursor::Cursor;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::domain::form::utc::UtcTime;
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{Params, PathId, PathIds};
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, ListRefusals, NoEndpoint};
use crate::routes::page::{PageParams, ThisPage};
use crate::store::{EndpointRow, NewRecovery, RecoveryRow};

const PER_SECOND: RangeInclusive<i32> = 1..=10_000;

/// The status of deliveries that a recovery makes pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecoverableStatus {
    /// They are dead.
    Dead,
    /// They were delivered, and the receiver gets them once more.
    Delivered,
}

/// Which deliveries to make pending.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RecoveryRequest {
    /// Deliveries of events that were accepted at this time or later (RFC 3339).
    #[schema(value_type = OffsetDateTime)]
    since: UtcTime,
    /// Deliveries of events that were accepted before this time (RFC 3339); now unless given.
    #[schema(value_type = Option<OffsetDateTime>)]
    until: Option<UtcTime>,
    /// Deliveries in these statuses; dead deliveries unless given.
    #[serde(default = "only_dead")]
    #[schema(min_items = 1)]
    statuses: Vec<RecoverableStatus>,
    /// How many deliveries become due in a second.
    #[serde(default = "default_per_second", deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 10_000, default = 100)]
    per_second: i32,
}

fn only_dead() -> Vec<RecoverableStatus> {
    vec![RecoverableStatus::Dead]
}

fn default_per_second() -> i32 {
    100
}

/// A recovery and its progress.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recovery {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: RecoveryId,
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// `running`, `finished` or `cancelled`.
    status: RecoveryStatus,
    /// Deliveries of events that were accepted at this time or later.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    since: OffsetDateTime,
    /// Deliveries of events that were accepted before this time.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    until: OffsetDateTime,
    /// `dead`, `delivered`, or both.
    statuses: Vec<DeliveryStatus>,
    /// How many deliveries become due in a second.
    per_second: i32,
    /// Deliveries that matched at the start. It is 10 000 when more than 10 000 had to be looked at.
    matched: i64,
    /// Deliveries made due so far.
    recovered: i64,
    /// When it was started.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    created_at: OffsetDateTime,
    /// When it ended.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    finished_at: Option<OffsetDateTime>,
}

/// A page of recoveries, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecoveryPage {
    /// The recoveries.
    data: Vec<Recovery>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

impl From<RecoveryRow> for Recovery {
    fn from(row: RecoveryRow) -> Self {
        Self {
            id: row.id,
            endpoint_id: row.endpoint_id,
            status: row.status,
            since: row.since,
            until: row.until,
            statuses: row.statuses,
            per_second: row.per_second,
            matched: row.matched,
            recovered: row.recovered,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

impl RecoveryRequest {
    fn check(&self, org_id: OrgId, endpoint: EndpointRow) -> Result<NewRecovery, ApiError> {
        let until = self.until.map(|until| until.0);
        let until = until.unwrap_or_else(|| UnixMicros::now().to_date_time());
        let mut errors = FieldErrors::default();
        if self.since.0 >= until {
            errors.push("since", "must be before `until`, which is now unless given");
        }
        if self.statuses.is_empty() {
            errors.push("statuses", "must name at least one status");
        }
        errors.check("per_second", check_range(&self.per_second, &PER_SECOND));
        errors.finish()?;
        Ok(NewRecovery {
            id: RecoveryId::generate(),
            org_id,
            endpoint_id: endpoint.id,
            tenant: endpoint.tenant,
            since: self.since.0,
            until,
            dead: self.statuses.contains(&RecoverableStatus::Dead),
            delivered: self.statuses.contains(&RecoverableStatus::Delivered),
            per_second: self.per_second,
        })
    }
}

/// Makes finished deliveries of an endpoint pending again, oldest first and at a pace. Events whose payload was removed
/// are left out.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/recover",
    operation_id = "recover_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = RecoveryRequest,
    responses(
        (status = 202, description = "The recovery, which workers carry out.", body = Recovery),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "Another recovery of the endpoint is running.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<Recovery>), ApiError> {
    let endpoint = find(&app, &realm, endpoint_id).await?;
    let request: RecoveryRequest = body.form().await?;
    let new = request.check(realm.org_id, endpoint)?;
    let matched = app.store.count_recoverable(&new).await?;
    if !app.store.create_recovery(&new, matched).await? {
        return Err(ApiError::Conflict(
            "another recovery of the endpoint is running: wait for its end, or cancel it",
        ));
    }
    let row = app.store.find_recovery(realm.org_id, endpoint_id, new.id).await?;
    Ok((StatusCode::ACCEPTED, Json(row.ok_or(ApiError::NotFound)?.into())))
}

/// Lists an endpoint's recoveries, newest first.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/recoveries",
    operation_id = "list_recoveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid), PageParams),
    responses(
        (status = 200, description = "A page of recoveries.", body = RecoveryPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals, NoEndpoint,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    this_page: ThisPage,
    Params(params): Params<PageParams>,
    Manager { realm, .. }: Manager,
) -> Result<(HeaderMap, Json<RecoveryPage>), ApiError> {
    find(&app, &realm, endpoint_id).await?;
    let page = params.page()?;
    let mut rows = app
        .store
        .list_recoveries(realm.org_id, endpoint_id, &page)
        .await?;
    let next_cursor = page.cut(&mut rows, |last| Cursor {
        at: last.created_at,
        id: last.id.as_uuid(),
    });
    let links = this_page.links(next_cursor.as_deref());
    let data = rows.into_iter().map(Into::into).collect();
    Ok((links, Json(RecoveryPage { data, next_cursor })))
}

/// Shows a recovery and its progress.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/recoveries/{recovery_id}",
    operation_id = "show_recovery",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid), ("recovery_id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The recovery.", body = Recovery),
        KeyRefusals,
        (status = 404, description = "The organisation has no such endpoint, or the endpoint has no such recovery.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathIds(endpoint_id, id): PathIds<EndpointId, RecoveryId>,
    Manager { realm, .. }: Manager,
) -> Result<Json<Recovery>, ApiError> {
    check_owner(&app, &realm, endpoint_id).await?;
    let row = app.store.find_recovery(realm.org_id, endpoint_id, id).await?;
    row.map(|row| Json(row.into())).ok_or(ApiError::NotFound)
}

/// Cancels a recovery. Deliveries that it has made due stay due. A recovery that has ended stays as it is.
#[utoipa::path(
    delete,
    path = "/v1/endpoints/{id}/recoveries/{recovery_id}",
    operation_id = "cancel_recovery",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid), ("recovery_id" = String, Path, format = Uuid)),
    responses(
        (status = 204, description = "The recovery does not run any more."),
        KeyRefusals,
        (status = 404, description = "The organisation has no such endpoint, or it no such recovery.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    PathIds(endpoint_id, id): PathIds<EndpointId, RecoveryId>,
    Manager { realm, .. }: Manager,
) -> Result<StatusCode, ApiError> {
    check_owner(&app, &realm, endpoint_id).await?;
    if app.store.cancel_recovery(realm.org_id, endpoint_id, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    }
}
