//! A new endpoint's row as JSON, which Postgres reads as a row of its table: any number of rows is one parameter of a statement.

use data_encoding::HEXLOWER;
use serde::Serialize;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, OnExhausted, WebhookMethod};
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use crate::store::{EndpointRow, Result};

/// The columns of a new endpoint, by their names.
#[derive(Serialize)]
struct NewRow<'a> {
    id: EndpointId,
    kind: EndpointKind,
    secret: String,
    url: Option<&'a str>,
    description: &'a str,
    event_types: &'a [EventTypePattern],
    filter: Option<&'a str>,
    headers: Option<String>,
    format: String,
    retry_attempts: Option<i32>,
    retry_initial_ms: Option<i64>,
    retry_factor: Option<f64>,
    retry_max_ms: Option<i64>,
    retry_max_age_ms: Option<i64>,
    timeout_ms: i32,
    max_in_flight: i32,
    rate_limit_per_second: Option<i32>,
    ordered: bool,
    on_exhausted: OnExhausted,
    status: EndpointStatus,
    disabled_reason: Option<&'a str>,
    tenant: Option<&'a Tenant>,
    all_tenants: bool,
    max_leased: Option<i32>,
    method: WebhookMethod,
    signatures: Option<String>,
    auth: Option<String>,
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    certificate_expires_at: Option<OffsetDateTime>,
    template: Option<&'a str>,
    template_content_type: Option<&'a str>,
}

/// The row of a new endpoint with its sealed signing secret.
///
/// # Errors
/// When it cannot be written.
pub(super) fn to_json(new: &EndpointRow, secret: &[u8]) -> Result<String> {
    let row = NewRow {
        id: new.id,
        kind: new.kind,
        secret: bytea(secret),
        url: new.url.as_deref(),
        description: &new.description,
        event_types: &new.event_types,
        filter: new.filter.as_deref(),
        headers: new.headers.as_deref().map(bytea),
        format: new.format.to_string(),
        retry_attempts: new.retry_attempts,
        retry_initial_ms: new.retry_initial_ms,
        retry_factor: new.retry_factor,
        retry_max_ms: new.retry_max_ms,
        retry_max_age_ms: new.retry_max_age_ms,
        timeout_ms: new.timeout_ms,
        max_in_flight: new.max_in_flight,
        rate_limit_per_second: new.rate_limit_per_second,
        ordered: new.ordered,
        on_exhausted: new.on_exhausted,
        status: new.status,
        disabled_reason: new.disabled_reason.as_deref(),
        tenant: new.tenant.as_ref(),
        all_tenants: new.all_tenants,
        max_leased: new.max_leased,
        method: new.method,
        signatures: new.signatures.as_deref().map(bytea),
        auth: new.auth.as_deref().map(bytea),
        certificate_expires_at: new.certificate_expires_at,
        template: new.template.as_deref(),
        template_content_type: new.template_content_type.as_deref(),
    };
    serde_json::to_string(&row).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Bytes as Postgres reads them.
fn bytea(bytes: &[u8]) -> String {
    format!("\\x{}", HEXLOWER.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_texts_stand_there_as_postgres_reads_them_and_what_is_missing_is_null() {
        let row = EndpointRow {
            description: "\"\\u0041\"\n\u{1f600}".to_owned(),
            event_types: vec!["order.*".parse().expect("it is a pattern")],
            filter: Some(r#"{"/a":"\u0041"}"#.to_owned()),
            headers: Some(vec![0, 0xff]),
            certificate_expires_at: Some(OffsetDateTime::UNIX_EPOCH),
            ..EndpointRow::new(
                EndpointId::from(uuid::Uuid::nil()),
                EndpointKind::Pull,
                Some("ü".parse().expect("it is a name")),
                false,
            )
        };
        insta::assert_snapshot!(
            to_json(&row, b"\x01").expect("it can be written"),
            @r#"{"id":"00000000-0000-0000-0000-000000000000","kind":"pull","secret":"\\x01","url":null,"description":"\"\\u0041\"\n😀","event_types":["order.*"],"filter":"{\"/a\":\"\\u0041\"}","headers":"\\x00ff","format":"standard","retry_attempts":null,"retry_initial_ms":null,"retry_factor":null,"retry_max_ms":null,"retry_max_age_ms":null,"timeout_ms":15000,"max_in_flight":64,"rate_limit_per_second":null,"ordered":false,"on_exhausted":"skip","status":"enabled","disabled_reason":null,"tenant":"ü","all_tenants":false,"max_leased":null,"method":"POST","signatures":null,"auth":null,"certificate_expires_at":"1970-01-01T00:00:00.000000Z","template":null,"template_content_type":null}"#
        );
    }
}
