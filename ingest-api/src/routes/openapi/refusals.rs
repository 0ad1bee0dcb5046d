//! The refusals that many operations share, for the OpenAPI document.
//!
//! An operation names them before answers of its own: of two with the same status, the later one counts.

use std::collections::BTreeMap;

use shared::domain::event::JSON;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::{Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::http::error::Problem;
use crate::routes::legacy::LegacyError;

/// A status, and when it is answered.
type Refusal = (u16, &'static str);

const NOT_JSON: Refusal = (400, "The body is not JSON.");
const NO_KEY: Refusal = (401, "No valid API key.");
const NO_ADMIN_TOKEN: Refusal = (401, "Not an admin token.");
const MAY_ONLY_READ: Refusal = (403, "The admin token lacks the scope `manage`.");
const MAY_NOT_MANAGE: Refusal = (403, "The key lacks the scope `manage`.");
const MAY_NOT_INGEST: Refusal = (403, "The key lacks the scope `ingest`.");
const BOUND: Refusal = (404, "The key is bound to a tenant.");
const NO_ADMIN_API: Refusal = (404, "The admin API is switched off.");
const LATE: Refusal = (408, "The body did not arrive in time.");
const LARGE: Refusal = (413, "Larger than 64 KiB.");
const NOT_OF_JSON_TYPE: Refusal = (415, "Not JSON, or compressed.");
const WRONG_FIELD: Refusal = (422, "A field is wrong; `errors` names it.");
const LIMITED: Refusal = (429, "The rate limit is used up.");
const LIMITED_OR_USED_UP: Refusal = (
    429,
    "The rate limit is used up, or the quota of the month is; try again after `Retry-After`.",
);
const NOT_STORED: Refusal = (
    503,
    "The event cannot be stored now; try again after `Retry-After`.",
);
const NO_DATABASE: Refusal = (503, "The database is not available.");

/// Defines types for `responses(…)`, each of refusals in one of the two forms below.
macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $form:ident[$($refusal:expr),+];)+) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                [$($form($refusal)),+].into()
            }
        }
    )+};
}

refusals! {
    /// Of a request that needs a key with the scope `manage`.
    KeyRefusals = problem[NO_KEY, MAY_NOT_MANAGE, LIMITED, NO_DATABASE];

    /// Of a request that brings events.
    IngestRefusals = problem[NOT_JSON, NO_KEY, MAY_NOT_INGEST, LATE, WRONG_FIELD, LIMITED_OR_USED_UP, NOT_STORED];

    /// Of a request that needs an admin token.
    AdminRefusals = problem[NO_ADMIN_TOKEN, NO_ADMIN_API, NO_DATABASE];

    /// Of a request that changes something and needs an admin token for that.
    AdminChangeRefusals = problem[NO_ADMIN_TOKEN, MAY_ONLY_READ, NO_ADMIN_API, NO_DATABASE];

    /// Of a form in the body.
    FormRefusals = problem[NOT_JSON, LATE, LARGE, NOT_OF_JSON_TYPE, WRONG_FIELD];

    /// Of a list's parameters.
    ListRefusals = problem[(422, "A parameter is wrong; `errors` names it.")];

    /// Of an endpoint's id.
    NoEndpoint = problem[(404, "The organisation has no such endpoint.")];

    /// Of a tenant's id.
    NoTenant = problem[(404, "The organisation has no such tenant, or the key is bound to one.")];

    /// Of an event's id.
    NoEvent = problem[(404, "The organisation has no such event, or no worker has stored it yet.")];

    /// Of an organisation's id, in the admin API.
    NoOrganization = problem[(404, "No such organisation, or the admin API is switched off.")];

    /// Where an organisation is changed.
    LeavingOrganization = problem[(409, "The organisation is being deleted.")];

    /// Where a key is made.
    NoNewKey = problem[(503, "The database is not available, or too many keys are being made.")];

    /// [`KeyRefusals`] of the Zapier Triggers API.
    LegacyKeyRefusals = legacy_error[NO_KEY, MAY_NOT_MANAGE, BOUND, LIMITED, NO_DATABASE];

    /// [`FormRefusals`] of the Zapier Triggers API, whose errors name the field in their text.
    LegacyFormRefusals = legacy_error[NOT_JSON, LATE, LARGE, NOT_OF_JSON_TYPE, (422, "A field is wrong.")];
}

fn problem(refusal: Refusal) -> (String, RefOr<Response>) {
    answer::<Problem>(refusal, "application/problem+json")
}

fn legacy_error(refusal: Refusal) -> (String, RefOr<Response>) {
    answer::<LegacyError>(refusal, JSON)
}

/// An answer by its status. Its body is a `T`, which the document lists among its components.
fn answer<T: ToSchema>((status, text): Refusal, media_type: &str) -> (String, RefOr<Response>) {
    let schema = Ref::from_schema_name(T::name());
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let answer = ResponseBuilder::new()
        .description(text)
        .content(media_type, content);
    (status.to_string(), answer.into())
}
