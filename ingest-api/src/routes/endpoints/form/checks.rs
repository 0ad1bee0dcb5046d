//! The checks of an endpoint form's fields.

use std::ops::RangeInclusive;

use serde_json::value::RawValue;
use shared::domain::endpoint::{EndpointKind, Format};
use shared::domain::event_type::{EventTypePattern, NoPattern};
use shared::domain::filter::PayloadFilter;
use shared::egress::EgressConfig;
use url::Url;

use super::EndpointForm;
use crate::domain::endpoint::is_https;
use crate::domain::form::field::Field;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::routes::endpoints::form::retry::RetryForm;
use crate::routes::endpoints::stored::Opened;

const MAX_URL_BYTES: usize = 2_048;
const MAX_DESCRIPTION_BYTES: usize = 1_000;
const MAX_EVENT_TYPES: usize = 100;

const MAX_IN_FLIGHT: RangeInclusive<i32> = 1..=1_000;
const TIMEOUT_MS: RangeInclusive<i32> = 100..=30_000;
const RATE_LIMIT_PER_SECOND: RangeInclusive<i32> = 1..=10_000;

impl EndpointForm {
    /// Checks the fields that the form sets. The others were checked when they were set.
    pub(super) fn check(&self, kind: EndpointKind, egress: &EgressConfig, errors: &mut FieldErrors) {
        errors.check("url", self.check_url(kind, egress));
        errors.check(
            "description",
            each(&self.description, |text| check_description(text)),
        );
        errors.check(
            "event_types",
            each(&self.event_types, |texts| event_types(texts).map(drop)),
        );
        errors.check("filter", each(&self.filter, |filter| check_filter(filter)));
        errors.check("max_in_flight", in_range(&self.max_in_flight, &MAX_IN_FLIGHT));
        errors.check("timeout_ms", in_range(&self.timeout_ms, &TIMEOUT_MS));
        errors.check(
            "rate_limit_per_second",
            in_range(&self.rate_limit_per_second, &RATE_LIMIT_PER_SECOND),
        );
        if let Field::Value(retry) = &self.retry {
            retry.check(errors);
        }
        if !kind.is_sent() {
            self.check_fetched(kind, errors);
        }
    }

    /// Refuses settings that only matter for webhooks. Null and `ordered: false` are allowed, because they set nothing.
    fn check_fetched(&self, kind: EndpointKind, errors: &mut FieldErrors) {
        let of_request = [
            ("headers", self.headers.value().is_some()),
            ("format", self.format == Field::Value(Format::Raw)),
            ("method", self.method.value().is_some()),
            ("signatures", self.signatures.value().is_some()),
            ("auth", self.auth.value().is_some()),
            ("secret", self.secret.is_some()),
            ("template", self.template.value().is_some()),
        ];
        let of_attempts = [
            ("timeout_ms", self.timeout_ms.value().is_some()),
            ("ordered", self.ordered == Field::Value(true)),
            ("on_exhausted", self.on_exhausted.value().is_some()),
        ];
        let set = |(field, is_set): (&'static str, bool)| is_set.then_some(field);
        let of_request = of_request.into_iter().filter_map(set);
        let of_retry = self.retry.value().map(RetryForm::set_for_webhooks);
        let of_attempts = of_attempts.into_iter().filter_map(set);
        for field in of_request.chain(of_retry.unwrap_or_default()).chain(of_attempts) {
            errors.push(field, beside(kind));
        }
    }

    fn check_url(&self, kind: EndpointKind, egress: &EgressConfig) -> Result<(), String> {
        match (kind.is_sent(), &self.url) {
            (true, Field::Value(url)) => check_url(url, egress),
            (true, Field::Null) => Err("must not be null".to_owned()),
            (false, Field::Value(_)) => Err(beside(kind)),
            (true, Field::Absent) | (false, Field::Null | Field::Absent) => Ok(()),
        }
    }
}

/// Checks what holds for several fields together, whichever of them a change sets.
pub(super) fn check_together(endpoint: &Opened, errors: &mut FieldErrors) {
    let row = &endpoint.row;
    let mut taken: Vec<_> = endpoint.headers.names().collect();
    if let Some(auth) = &endpoint.auth {
        let has_header = taken
            .iter()
            .any(|name| name.eq_ignore_ascii_case("authorization"));
        if auth.credentials.sets_authorization() {
            if has_header {
                errors.push("auth", "sets `Authorization`, which stands in `headers` too");
            } else {
                taken.push("authorization");
            }
        } else if !row.url.as_deref().is_some_and(is_https) {
            errors.push("auth.kind", "`mtls` needs an https URL");
        }
    }
    if let Some(signatures) = &endpoint.signatures {
        for wrong in signatures.check(&taken) {
            errors.push(&format!("signatures{}", wrong.place), wrong.detail);
        }
    }
    if row.template.is_some() && row.format.format != Format::default() {
        errors.push(
            "template",
            "must not stand beside a `format` other than `standard`",
        );
    }
}

fn beside(kind: EndpointKind) -> String {
    format!("must not stand beside the kind `{kind}`")
}

fn each<T>(field: &Field<T>, check: impl FnOnce(&T) -> Result<(), String>) -> Result<(), String> {
    field.value().map_or(Ok(()), check)
}

fn in_range<T: PartialOrd + std::fmt::Display>(
    field: &Field<T>,
    range: &RangeInclusive<T>,
) -> Result<(), String> {
    each(field, |value| check_range(value, range))
}

/// Checks the URL of a webhook.
///
/// # Errors
/// The text says what is wrong with it.
pub(crate) fn check_url(text: &str, egress: &EgressConfig) -> Result<(), String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("must not be longer than {MAX_URL_BYTES} bytes"));
    }
    if text.contains(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    egress.check_url(&url).map_err(|refused| refused.to_string())
}

fn check_description(text: &str) -> Result<(), String> {
    if text.len() > MAX_DESCRIPTION_BYTES || text.contains('\0') {
        return Err(format!(
            "must have at most {MAX_DESCRIPTION_BYTES} bytes, none of them NUL"
        ));
    }
    Ok(())
}

pub(super) fn event_types(texts: &[String]) -> Result<Vec<EventTypePattern>, String> {
    if texts.len() > MAX_EVENT_TYPES {
        return Err(format!("must not name more than {MAX_EVENT_TYPES} types"));
    }
    let patterns = texts.iter().map(|text| text.parse());
    patterns
        .collect::<Result<_, _>>()
        .map_err(|error: NoPattern| error.to_string())
}

fn check_filter(filter: &RawValue) -> Result<(), String> {
    let filter = PayloadFilter::parse(filter.get());
    filter.map(drop).map_err(|error| error.to_string())
}
