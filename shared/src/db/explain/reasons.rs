//! Why an event does not go to an endpoint.

use super::read::{EndpointRow, EventRow};
use crate::domain::clock::Timestamp;
use crate::domain::endpoint::EndpointStatus;
use crate::domain::event::is_json;
use crate::domain::event_type;
use crate::domain::filter::{FilterError, PayloadFilter};

/// The first reason, in the order in which workers decide.
///
/// # Errors
/// When a later release wrote the endpoint's filter.
pub(super) fn why_not(event: &EventRow, endpoint: &EndpointRow) -> Result<String, FilterError> {
    if endpoint.created_at > event.stored_at {
        return Ok(format!(
            "It was made at {}, after the event was stored.",
            Timestamp(endpoint.created_at)
        ));
    }
    if let Some(reason) = of_tenant(event, endpoint) {
        return Ok(reason);
    }
    if !event_type::wants(&endpoint.event_types, &event.event_type) {
        let types = endpoint.event_types.iter().map(|pattern| format!("`{pattern}`"));
        return Ok(format!(
            "It wants {}, and not `{}`.",
            types.collect::<Vec<_>>().join(", "),
            event.event_type
        ));
    }
    if let Some(text) = &endpoint.filter {
        let filter = PayloadFilter::parse(text)?;
        if event.expunged_at.is_some() && filter.asks_data() {
            return Ok(format!(
                "It has the filter {text}, and the payload is gone that tells whether it matches."
            ));
        }
        let data = is_json(&event.content_type).then_some(&*event.data);
        let judged = filter.judge(&event.event_type, event.tenant.as_deref(), data);
        if !judged.passes {
            return Ok(format!("Its filter does not match the payload: {text}."));
        }
    }
    if endpoint.status == EndpointStatus::Disabled {
        return Ok("It is disabled.".to_owned());
    }
    if !endpoint.tenant_enabled {
        return Ok("Its tenant is disabled.".to_owned());
    }
    Ok("It would get such an event now: it was disabled or had other settings when the event was stored, or the \
        event was for one other endpoint."
        .to_owned())
}

fn of_tenant(event: &EventRow, endpoint: &EndpointRow) -> Option<String> {
    if endpoint.all_tenants || endpoint.tenant == event.tenant {
        return None;
    }
    let whose = |tenant: &Option<String>| match tenant {
        Some(tenant) => format!("of tenant `{tenant}`"),
        None => "of no tenant".to_owned(),
    };
    Some(format!(
        "It gets events {}, and this one is {}.",
        whose(&endpoint.tenant),
        whose(&event.tenant)
    ))
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn event(event_type: &str, content_type: &str) -> EventRow {
        EventRow {
            organization: "o".to_owned(),
            event_type: event_type.to_owned(),
            accepted_at: AT,
            stored_at: AT,
            expunged_at: None,
            content_type: content_type.to_owned(),
            data: b"1".to_vec(),
            tenant: None,
            idempotency_key: None,
            traceparent: None,
        }
    }

    fn endpoint(event_types: &[&str], filter: Option<&str>) -> EndpointRow {
        EndpointRow {
            event_types: event_types.iter().map(|text| text.parse().unwrap()).collect(),
            filter: filter.map(str::to_owned),
            ..EndpointRow::sample()
        }
    }

    #[test]
    fn types_and_filters_are_judged_as_workers_judge_them() {
        let text = event("order.created", "text/plain");
        let by_type = Some(r#"{"type":{"prefix":"order."}}"#);
        let reason = |event, endpoint| why_not(event, &endpoint).unwrap();
        assert!(reason(&text, endpoint(&[], by_type)).starts_with("It would get"));
        assert!(reason(&text, endpoint(&[], Some(r#"{"/a":1}"#))).starts_with("Its filter"));
        let told = event("endpoint.failing", "application/json");
        assert!(reason(&told, endpoint(&["*"], None)).starts_with("It wants"));
        assert!(reason(&told, endpoint(&["endpoint.*"], None)).starts_with("It would get"));
    }
}
