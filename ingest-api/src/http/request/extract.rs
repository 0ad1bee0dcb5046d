//! Extractors whose refusals are problems like every other.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::http::error::ApiError;

/// The one id in a path. Text that is no id names nothing: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathId<T>(pub T);

impl<T: FromStr, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::NotFound)?;
        text.parse().map(Self).map_err(|_| ApiError::NotFound)
    }
}

/// The two ids in a path, in their order. Text that is no id names nothing: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathIds<A, B>(pub A, pub B);

impl<A: FromStr, B: FromStr, S: Send + Sync> FromRequestParts<S> for PathIds<A, B> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Path((first, second)) = Path::<(String, String)>::from_request_parts(parts, state)
            .await
            .map_err(|_| ApiError::NotFound)?;
        match (first.parse(), second.parse()) {
            (Ok(first), Ok(second)) => Ok(Self(first, second)),
            _ => Err(ApiError::NotFound),
        }
    }
}

/// The query string, read into a struct.
#[derive(Clone, Debug)]
pub(crate) struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let Query(params) = Query::try_from_uri(&parts.uri).map_err(|error| {
            // `Failed to deserialize query string: limit: invalid digit found in string`
            let text = error.body_text();
            let mut words = text.splitn(3, ": ");
            let (_, field, detail) = (words.next(), words.next(), words.next());
            match (field, detail) {
                (Some(field), Some(detail)) => ApiError::invalid(field, detail),
                _ => ApiError::invalid("query", text.as_str()),
            }
        })?;
        Ok(Self(params))
    }
}
