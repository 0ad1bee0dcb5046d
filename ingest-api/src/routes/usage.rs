//! `/v1/usage` and `/admin/v1/usage`: what was sent and delivered, by tenant and day.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::domain::accounts::quota::QuotaAction;
use crate::domain::accounts::usage::{UsageEntry, UsagePlace, csv};
use crate::domain::cursor::Cursor;
use crate::domain::form::day::Day;
use crate::domain::form::field_errors::check_range;
use crate::domain::page::Page;
use crate::http::admission::callers::{AdminReader, Manager};
use crate::http::error::ApiError;
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{AdminRefusals, KeyRefusals, ListRefusals};
use crate::routes::page::{ThisPage, after};
use crate::store::Days;

/// Most entries on a page, and how many there are unless the request says so.
const MAX_LIMIT: i64 = 1_000;
const DEFAULT_LIMIT: i64 = 100;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UsageFormat {
    /// A page of entries.
    Json,
    /// A line for each entry.
    Csv,
}

/// Which usage to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageParams {
    /// Only this day (UTC) and later ones; the first one of this month unless given.
    #[param(value_type = Option<String>, format = Date)]
    from: Option<Day>,
    /// Only days before this one.
    #[param(value_type = Option<String>, format = Date)]
    to: Option<Day>,
    /// Only the events of this tenant.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    tenant: Option<Tenant>,
    /// `csv`, or `json`; as `Accept` says unless given.
    #[param(inline)]
    format: Option<UsageFormat>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most entries on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

/// Which usage to list, of whose.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AllUsageParams {
    /// Only the events of this organisation.
    #[param(value_type = Option<String>, format = Uuid)]
    organization_id: Option<OrgId>,
    /// Only those of this tenant of the organisation.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    tenant: Option<Tenant>,
    /// Only this day (UTC) and later ones; the first one of this month unless given.
    #[param(value_type = Option<String>, format = Date)]
    from: Option<Day>,
    /// Only days before this one.
    #[param(value_type = Option<String>, format = Date)]
    to: Option<Day>,
    /// `csv`, or `json`; as `Accept` says unless given.
    #[param(inline)]
    format: Option<UsageFormat>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most entries on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

/// A page of usage: by organisation, day and tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsagePage {
    /// The entries.
    data: Vec<UsageEntry>,
    /// Events that were accepted before this time are counted; null when none are.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    counted_through: Option<OffsetDateTime>,
    /// The quota of the organisation, or of the tenant, whose usage is listed; null when it has none, and for that of all
    /// organisations.
    quota: Option<UsageQuota>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// How many events may be sent in a month.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageQuota {
    /// Events a month (UTC).
    events_per_month: u64,
    /// What becomes of the events beyond.
    quota_action: QuotaAction,
}

/// Lists what the organisation, or the tenant that the key is bound to, has used: an entry for each tenant and day.
///
/// An hour is counted some minutes after its end. Its deliveries that were pending then are counted again as they go on.
#[utoipa::path(
    get,
    path = "/v1/usage",
    operation_id = "list_usage",
    tag = "usage",
    security(("api_key" = []), ("bearer" = [])),
    params(UsageParams),
    responses(
        (status = 200, description = "A page of usage.", content((UsagePage = "application/json"), (String = "text/csv")), headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<UsageParams>,
    Manager { realm, .. }: Manager,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = params.format.unwrap_or_else(|| accepted_format(&headers));
    let page = page(params.cursor.as_deref(), params.limit)?;
    let realm = realm.narrowed(params.tenant)?;
    let days = days(params.from, params.to);
    let entries = app.store.list_usage(&realm, days, &page).await?;
    answer(&app, Some(&realm), entries, &page, &this_page, format).await
}

/// Lists what organisations have used: an entry for each of them, each tenant and each day.
///
/// An hour is counted some minutes after its end. Its deliveries that were pending then are counted again as they go on.
#[utoipa::path(
    get,
    path = "/admin/v1/usage",
    operation_id = "list_all_usage",
    tag = "admin",
    security(("admin_token" = [])),
    params(AllUsageParams),
    responses(
        (status = 200, description = "A page of usage.", content((UsagePage = "application/json"), (String = "text/csv")), headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        AdminRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list_all(
    _: AdminReader,
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<AllUsageParams>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = params.format.unwrap_or_else(|| accepted_format(&headers));
    let page = page(params.cursor.as_deref(), params.limit)?;
    let days = days(params.from, params.to);
    let realm = match (params.organization_id, params.tenant) {
        (Some(org_id), tenant) => Some(Realm { org_id, tenant }),
        (None, None) => None,
        (None, Some(_)) => {
            return Err(ApiError::invalid(
                "tenant",
                "is one of an organisation: name `organization_id` too",
            ));
        }
    };
    let entries = match &realm {
        Some(realm) => app.store.list_usage(realm, days, &page).await?,
        None => app.store.list_all_usage(days, &page).await?,
    };
    answer(&app, realm.as_ref(), entries, &page, &this_page, format).await
}

fn page(cursor: Option<&str>, limit: Option<i64>) -> Result<Page<UsagePlace>, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    check_range(&limit, &(1..=MAX_LIMIT)).map_err(|detail| ApiError::invalid("limit", detail))?;
    let after = after(cursor)?;
    Ok(Page { after, limit })
}

fn days(from: Option<Day>, to: Option<Day>) -> Days {
    Days {
        from: from.map(|day| day.0),
        to: to.map(|day| day.0),
    }
}

/// The quota of an organisation, or of its tenant. None when it has none.
async fn quota(app: &App, realm: &Realm) -> Result<Option<UsageQuota>, ApiError> {
    let found = if let Some(tenant) = &realm.tenant {
        let found = app.store.find_tenant(realm.org_id, tenant).await?;
        found.map(|tenant| (tenant.settings.events_per_month, tenant.settings.quota_action))
    } else {
        let found = app.store.get_organization(realm.org_id).await?;
        found.map(|organization| (organization.events_per_month, organization.quota_action))
    };
    let found = found.and_then(|(events, action)| Some((events?, action)));
    Ok(found.map(|(events_per_month, quota_action)| UsageQuota {
        events_per_month,
        quota_action,
    }))
}

/// Answers with a page of what the realm has used, or all organisations.
async fn answer(
    app: &App,
    realm: Option<&Realm>,
    mut data: Vec<UsageEntry>,
    page: &Page<UsagePlace>,
    this_page: &ThisPage,
    format: UsageFormat,
) -> Result<Response, ApiError> {
    let next_cursor = page.cut(&mut data, |last| Cursor {
        at: last.day.0.midnight().assume_utc(),
        id: UsagePlace::new(
            last.organization_id,
            last.tenant.as_ref().map_or("", Tenant::as_str),
        ),
    });
    let links = this_page.links(next_cursor.as_deref());
    if format == UsageFormat::Csv {
        let media_type = HeaderValue::from_static("text/csv; charset=utf-8");
        return Ok((links, [(CONTENT_TYPE, media_type)], csv(&data)).into_response());
    }
    let quota = match realm {
        Some(realm) => quota(app, realm).await?,
        None => None,
    };
    let page = UsagePage {
        data,
        quota,
        counted_through: app.store.usage_counted_through().await?,
        next_cursor,
    };
    Ok((links, Json(page)).into_response())
}

/// CSV when `Accept` names it before anything that JSON is.
fn accepted_format(headers: &HeaderMap) -> UsageFormat {
    let texts = headers.get_all(ACCEPT).iter();
    let texts = texts.filter_map(|value| value.to_str().ok());
    let types = texts.flat_map(|text| text.split(','));
    let mut types = types.map(|text| text.split(';').next().unwrap_or_default().trim().to_lowercase());
    let first = types.find_map(|media_type| match media_type.as_str() {
        "text/csv" | "text/*" => Some(UsageFormat::Csv),
        "application/json" | "application/*" | "*/*" => Some(UsageFormat::Json),
        _ => None,
    });
    first.unwrap_or(UsageFormat::Json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_form_that_is_accepted_is_given() {
        let format = |accept: &'static str| {
            let headers = [(ACCEPT, HeaderValue::from_static(accept))];
            accepted_format(&headers.into_iter().collect())
        };
        for accept in ["text/csv", "Text/CSV; q=0.9, */*", "image/png, text/csv"] {
            assert_eq!(format(accept), UsageFormat::Csv, "{accept}");
        }
        for accept in ["*/*", "application/json, text/csv", "image/png", ""] {
            assert_eq!(format(accept), UsageFormat::Json, "{accept}");
        }
        assert_eq!(accepted_format(&HeaderMap::new()), UsageFormat::Json);
    }
}
