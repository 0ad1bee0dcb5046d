use data_encoding::BASE64;

use super::*;
use crate::endpoints::retry::tests::default_policy;

pub(crate) fn key() -> SecretsKey {
    BASE64.encode(&[7; 32]).parse().unwrap()
}

pub(crate) fn row() -> EndpointRow {
    let id = EndpointId::generate();
    EndpointRow {
        id,
        org_id: OrgId::generate(),
        version: 1,
        kind: EndpointKind::Push,
        url: Some("https://example.com/".to_owned()),
        event_types: Vec::new(),
        filter: None,
        secret: SigningSecret::generate().seal(&key(), id),
        previous_secret: None,
        previous_secret_expires_at: None,
        headers: None,
        format: "standard".parse().unwrap(),
        method: WebhookMethod::Post,
        signatures: None,
        auth: None,
        template: None,
        template_content_type: None,
        max_in_flight: 8,
        timeout_ms: 1_000,
        rate_limit_per_second: None,
        ordered: false,
        on_exhausted: OnExhausted::Skip,
        retry_attempts: None,
        retry_initial_ms: None,
        retry_factor: None,
        retry_max_ms: None,
        retry_max_age_ms: None,
        tenant: None,
        all_tenants: false,
        enabled: true,
    }
}

fn endpoint(row: &EndpointRow) -> anyhow::Result<Endpoint> {
    row.endpoint(None, &key(), &default_policy())
}

#[test]
fn an_endpoint_overrides_any_part_of_the_workers_retry_policy() {
    assert_eq!(endpoint(&row()).unwrap().retry, default_policy());
    let some = EndpointRow {
        retry_attempts: Some(3),
        retry_max_ms: Some(60_000),
        ..row()
    };
    let expected = RetryPolicy {
        retry_attempts: 3,
        retry_max: Duration::from_secs(60),
        ..default_policy()
    };
    assert_eq!(endpoint(&some).unwrap().retry, expected);
    let all = EndpointRow {
        retry_initial_ms: Some(1),
        retry_factor: Some(1.5),
        retry_max_age_ms: Some(2_000),
        ..some
    };
    let expected = RetryPolicy {
        retry_initial: Duration::from_millis(1),
        retry_factor: 1.5,
        retry_max_age: Duration::from_secs(2),
        ..expected
    };
    assert_eq!(endpoint(&all).unwrap().retry, expected);
}

#[test]
fn a_retry_factor_that_is_no_number_is_refused() {
    for factor in [f64::NAN, f64::INFINITY] {
        let row = EndpointRow {
            retry_factor: Some(factor),
            ..row()
        };
        assert!(endpoint(&row).is_err());
    }
}

#[test]
fn paced_deliveries_and_those_in_order_wait_in_the_table() {
    let plain = Event::sample();
    let keyed = Event {
        ordering_key: Some("k"),
        ..plain
    };
    let may_start = |row: &EndpointRow| [plain, keyed].map(|event| endpoint(row).unwrap().may_start(&event));
    assert_eq!(may_start(&row()), [true, true]);
    let ordered = EndpointRow {
        ordered: true,
        ..row()
    };
    assert_eq!(may_start(&ordered), [true, false]);
    let paced = EndpointRow {
        rate_limit_per_second: Some(5),
        ..row()
    };
    assert_eq!(may_start(&paced), [false, false]);
}
