//! Lists in pages: the query's parameters and the way to the next page.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::LINK;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use serde::Deserialize;
use shared::domain::name::Tenant;
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::domain::cursor::Cursor;
use crate::domain::page::Page;
use crate::http::error::ApiError;

const MAX_LIMIT: i64 = 100;
const DEFAULT_LIMIT: i64 = 50;

/// Which page to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageParams {
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

/// Which page to list, of whose.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TenantParams {
    /// Only what belongs to this tenant.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    pub tenant: Option<Tenant>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most rows on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

impl TenantParams {
    /// Reads the page's parameters.
    ///
    /// # Errors
    /// 422 with the wrong one.
    pub(crate) fn page<Id: AsRef<[u8]> + TryFrom<Vec<u8>>>(&self) -> Result<Page<Id>, ApiError> {
        page(self.cursor.as_deref(), self.limit)
    }
}

impl PageParams {
    /// Reads the parameters.
    ///
    /// # Errors
    /// 422 with the wrong one.
    pub(crate) fn page<Id: AsRef<[u8]> + TryFrom<Vec<u8>>>(&self) -> Result<Page<Id>, ApiError> {
        page(self.cursor.as_deref(), self.limit)
    }
}

/// Reads the page's parameters of a list that has further ones.
///
/// # Errors
/// 422 with the wrong one.
pub(crate) fn page<Id: AsRef<[u8]> + TryFrom<Vec<u8>>>(
    cursor: Option<&str>,
    limit: Option<i64>,
) -> Result<Page<Id>, ApiError> {
    let limit = self::limit(limit)?;
    let after = after(cursor)?;
    Ok(Page { after, limit })
}

/// Reads where the page before ended.
///
/// # Errors
/// 422 when it is no cursor.
pub(crate) fn after<Id: AsRef<[u8]> + TryFrom<Vec<u8>>>(
    cursor: Option<&str>,
) -> Result<Option<Cursor<Id>>, ApiError> {
    let wrong = || ApiError::invalid("cursor", "is not a `next_cursor`");
    cursor
        .map(|text| Cursor::decode(text).ok_or_else(wrong))
        .transpose()
}

/// Reads how many rows a page may hold.
///
/// # Errors
/// 422 when it is not 1 to 100.
pub(crate) fn limit(limit: Option<i64>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid("limit", "must be 1 to 100"));
    }
    Ok(limit)
}

/// The request for this page. The link to the next page is made from it.
#[derive(Debug)]
pub(crate) struct ThisPage(Uri);

impl<S: Send + Sync> FromRequestParts<S> for ThisPage {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.uri.clone()))
    }
}

impl ThisPage {
    /// `Link: <…>; rel="next"` (RFC 8288), when there is a next page: the same request with another cursor.
    pub(crate) fn links(&self, next_cursor: Option<&str>) -> HeaderMap {
        let link = next_cursor.map(|cursor| {
            let query = form_urlencoded::parse(self.0.query().unwrap_or_default().as_bytes());
            let query = form_urlencoded::Serializer::new(String::new())
                .extend_pairs(query.filter(|(name, _)| name != "cursor"))
                .append_pair("cursor", cursor)
                .finish();
            let link = format!("<{}?{query}>; rel=\"next\"", self.0.path());
            let link = HeaderValue::try_from(link);
            (
                LINK,
                link.expect("the path is a route's, and such a query is ASCII"),
            )
        });
        link.into_iter().collect()
    }
}
