//! Lists in pages: the query's parameters and the way to the next page.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::header::LINK;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Uri};
use serde::Deserialize;
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
    let limit = limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid("limit", "must be 1 to 100"));
    }
    let wrong = || ApiError::invalid("cursor", "is not a `next_cursor`");
    let after = cursor
        .map(|text| Cursor::decode(text).ok_or_else(wrong))
        .transpose()?;
    Ok(Page { after, limit })
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
