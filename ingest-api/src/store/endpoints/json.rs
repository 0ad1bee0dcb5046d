//! An endpoint's row as JSON, which Postgres reads as a row of its table: any number of rows is one parameter of a statement.

use data_encoding::HEXLOWER;
use serde::Serialize;

use super::row::EndpointRow;
use crate::store::Result;

/// The columns of an endpoint, by their names.
#[derive(Serialize)]
struct Columns<'a> {
    #[serde(flatten)]
    endpoint: &'a EndpointRow,
    // Not in the forms that the row has.
    secret: Option<String>,
    format: String,
    headers: Option<String>,
    signatures: Option<String>,
    auth: Option<String>,
}

/// What an endpoint's owner has set, and its sealed signing secret if it is a new one.
///
/// # Errors
/// When it cannot be written.
pub(in crate::store) fn to_json(endpoint: &EndpointRow, secret: Option<&[u8]>) -> Result<String> {
    let columns = Columns {
        endpoint,
        secret: secret.map(bytea),
        format: endpoint.format.to_string(),
        headers: endpoint.headers.as_deref().map(bytea),
        signatures: endpoint.signatures.as_deref().map(bytea),
        auth: endpoint.auth.as_deref().map(bytea),
    };
    serde_json::to_string(&columns).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Bytes as Postgres reads them.
fn bytea(bytes: &[u8]) -> String {
    format!("\\x{}", HEXLOWER.encode(bytes))
}

#[cfg(test)]
mod tests {
    use shared::domain::endpoint::EndpointKind;
    use shared::domain::id::EndpointId;
    use time::OffsetDateTime;

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
            to_json(&row, Some(b"\x01")).expect("it can be written"),
            @r#"{"id":"00000000-0000-0000-0000-000000000000","kind":"pull","tenant":"ü","all_tenants":false,"url":null,"description":"\"\\u0041\"\n😀","event_types":["order.*"],"filter":"{\"/a\":\"\\u0041\"}","method":"POST","certificate_expires_at":"1970-01-01T00:00:00.000000Z","template":null,"template_content_type":null,"retry_attempts":null,"retry_initial_ms":null,"retry_factor":null,"retry_max_ms":null,"retry_max_age_ms":null,"timeout_ms":15000,"max_in_flight":64,"max_leased":null,"rate_limit_per_second":null,"ordered":false,"on_exhausted":"skip","status":"enabled","disabled_reason":null,"secret":"\\x01","format":"standard","headers":"\\x00ff","signatures":null,"auth":null}"#
        );
    }
}
