//! Errors as producers see them: RFC 9457 `application/problem+json`.

pub(crate) mod causes;

use std::borrow::Cow;

use axum::Json;
use axum::http::header::{ACCEPT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use shared::domain::endpoint::EndpointKind;
use utoipa::ToSchema;

use crate::domain::access::realm::OtherTenant;
use crate::domain::accounts::maximum::Maximum;
use crate::domain::form::field_errors::FieldError;

/// Problem type of RFC 9457's registry for an exceeded quota.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// Content codings that bodies may be sent in, as `Accept-Encoding` names them.
const ACCEPTED_CODINGS: &str = "gzip, zstd";

/// Why a request failed. The sender can act on every variant but the last.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// 400: the body or a header cannot be read.
    Malformed(String),
    /// 401: no key, or not a valid one.
    Unauthorized(&'static str),
    /// 403: the key is valid but may not do this.
    Forbidden(&'static str),
    /// 404: no such thing, or another organisation's.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 409: the state of the resource does not allow it.
    Conflict(&'static str),
    /// 409: the endpoint is of a kind that does not know this, for this reason.
    OfKind(EndpointKind, &'static str),
    /// 409: there are as many as there may be.
    LimitReached(Maximum),
    /// 412: the resource has another version than the request names.
    PreconditionFailed,
    /// 412: the resource is there, and the request asks for a new one.
    Exists,
    /// 408: the body did not arrive in time.
    BodyTimeout,
    /// 413.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// 413.
    TooManyEvents {
        /// The limit.
        limit: usize,
    },
    /// 413: a compressed body grows out of proportion.
    OutOfProportion {
        /// How many times larger it may be.
        ratio: usize,
    },
    /// 415.
    UnsupportedMediaType(Cow<'static, str>),
    /// 415: the content coding is not supported. The answer names those that are.
    UnsupportedCoding,
    /// 422: the body can be read, but these fields are wrong.
    Invalid(Vec<FieldError>),
    /// 429.
    RateLimited {
        /// Seconds until a request can succeed.
        retry_after: u64,
    },
    /// 429: no more events this month.
    QuotaUsedUp {
        /// Whose quota.
        owner: &'static str,
        /// The quota.
        events_per_month: u64,
        /// Seconds until the next month begins.
        retry_after: u64,
    },
    /// 503: nothing is wrong with the request; try again.
    Unavailable {
        /// What is not available.
        reason: &'static str,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// 500, with the cause in the log only.
    Internal(anyhow::Error),
}

/// The body of every error answer, and of each refused event of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Names the kind of problem; `about:blank` where the status says it all.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, for a person.
    detail: Cow<'static, str>,
    /// The wrong fields, with status 422.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// The error in one line. Every error answer carries it, for APIs whose errors have another form.
#[derive(Clone, Debug)]
pub(crate) struct ErrorText(pub String);

/// Why a request was refused, for the log: of wrong fields their names alone, since a value may be a secret.
#[derive(Clone, Debug)]
pub(crate) struct Reason(pub Cow<'static, str>);

impl From<OtherTenant> for ApiError {
    fn from(_: OtherTenant) -> Self {
        Self::invalid("tenant", OtherTenant::DETAIL)
    }
}

impl ApiError {
    /// 422 with one wrong field.
    pub(crate) fn invalid(field: &str, detail: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }

    /// 400 for a body that is not JSON.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        Self::Malformed(format!("the body is not valid JSON: {error}"))
    }

    /// The status of the answer.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) | Self::OfKind(..) | Self::LimitReached(_) => StatusCode::CONFLICT,
            Self::PreconditionFailed | Self::Exists => StatusCode::PRECONDITION_FAILED,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::TooManyEvents { .. } | Self::OutOfProportion { .. } => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::UnsupportedMediaType(_) | Self::UnsupportedCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::RateLimited { .. } | Self::QuotaUsedUp { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        match self {
            Self::Malformed(detail) => detail.clone().into(),
            Self::Unauthorized(detail) | Self::Forbidden(detail) | Self::Conflict(detail) => (*detail).into(),
            Self::OfKind(kind, reason) => format!("the endpoint is of kind `{kind}`: {reason}").into(),
            Self::LimitReached(Maximum {
                owner,
                what,
                count,
                remedy,
            }) => format!("{owner} has {count} {what}, the most it may have: {remedy} some first").into(),
            Self::NotFound => "there is nothing here under this path".into(),
            Self::MethodNotAllowed => "this path does not know this method".into(),
            Self::PreconditionFailed => "it was changed since: `If-Match` names another version".into(),
            Self::Exists => "it is there already, and `If-None-Match` asks for a new one".into(),
            Self::BodyTimeout => "the request's body did not arrive in time".into(),
            Self::TooLarge { limit } => format!("the body is larger than {limit} bytes").into(),
            Self::TooManyEvents { limit } => format!("the batch holds more than {limit} events").into(),
            Self::OutOfProportion { ratio } => {
                format!("the body grows to more than {ratio} times its size when it is decompressed").into()
            }
            Self::UnsupportedMediaType(detail) => detail.clone(),
            Self::UnsupportedCoding => {
                "of content codings, send gzip or zstd, at most two of them, or none".into()
            }
            Self::Invalid(errors) => {
                let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
                format!("wrong: {}", fields.join(", ")).into()
            }
            Self::RateLimited { retry_after } => {
                format!("the rate limit is used up; try again in {retry_after} s").into()
            }
            Self::QuotaUsedUp {
                owner,
                events_per_month,
                ..
            } => format!(
                "the {owner}'s quota of {events_per_month} events a month is used up, until the month ends (UTC)"
            )
            .into(),
            Self::Unavailable { reason, .. } => (*reason).into(),
            Self::Internal(_) => "something went wrong on our side".into(),
        }
    }

    fn text(&self) -> ErrorText {
        match self {
            Self::Invalid(errors) => {
                let lines: Vec<_> = errors
                    .iter()
                    .map(|error| format!("{}: {}", error.field, error.detail))
                    .collect();
                ErrorText(lines.join("; "))
            }
            other => ErrorText(other.detail().into_owned()),
        }
    }

    /// The status and the text.
    #[cfg(test)]
    pub(crate) fn in_words(&self) -> String {
        format!("{} {}", self.status().as_u16(), self.text().0)
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after }
            | Self::QuotaUsedUp { retry_after, .. }
            | Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// The cause of an internal error, for the log only.
#[derive(Clone, Debug)]
pub(crate) struct Cause(pub String);

impl From<ApiError> for Problem {
    /// For a part of an answer. Writes an internal cause to the log; the sender does not see it.
    fn from(error: ApiError) -> Self {
        if let ApiError::Internal(cause) = &error {
            tracing::error!(error = format!("{cause:#}"), "a part of a request failed");
        }
        Self::of(error)
    }
}

impl Problem {
    fn of(error: ApiError) -> Self {
        let status = error.status();
        Self {
            kind: if status == StatusCode::TOO_MANY_REQUESTS {
                QUOTA_EXCEEDED
            } else {
                "about:blank"
            },
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: error.detail(),
            errors: if let ApiError::Invalid(errors) = error {
                errors
            } else {
                Vec::new()
            },
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, retry_after, text) = (self.status(), self.retry_after(), self.text());
        let is_coding = matches!(self, Self::UnsupportedCoding);
        let cause = match &self {
            Self::Internal(cause) => Some(Cause(format!("{cause:#}"))),
            _ => None,
        };
        let reason = Reason(self.detail());
        let mut response = (status, Json(Problem::of(self))).into_response();
        response.extensions_mut().insert(text);
        response.extensions_mut().insert(reason);
        // Logged with the request's id.
        if let Some(cause) = cause {
            response.extensions_mut().insert(cause);
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if is_coding {
            // RFC 9110, 15.5.16.
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(ACCEPTED_CODINGS));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
