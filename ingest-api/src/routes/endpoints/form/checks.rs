//! The checks of an endpoint form's fields.

use std::ops::RangeInclusive;

use serde_json::value::RawValue;
use shared::domain::endpoint::EndpointKind;
use shared::domain::event_type::{EventTypePattern, NoPattern};
use shared::domain::filter::PayloadFilter;
use shared::egress::EgressConfig;
use url::Url;

use super::{EndpointForm, RetryForm};
use crate::domain::field::Field;
use crate::domain::field_errors::{FieldErrors, check_range};

const MAX_URL_BYTES: usize = 2_048;
const MAX_DESCRIPTION_BYTES: usize = 1_000;
const MAX_EVENT_TYPES: usize = 100;

const MAX_IN_FLIGHT: RangeInclusive<i32> = 1..=1_000;
const TIMEOUT_MS: RangeInclusive<i32> = 100..=30_000;
const RATE_LIMIT_PER_SECOND: RangeInclusive<i32> = 1..=10_000;
const RETRY_ATTEMPTS: RangeInclusive<i32> = 1..=100;
const RETRY_INITIAL_SECONDS: RangeInclusive<f64> = 0.1..=86_400.0;
const RETRY_FACTOR: RangeInclusive<f64> = 1.0..=10.0;
const RETRY_MAX_SECONDS: RangeInclusive<f64> = 1.0..=86_400.0;
const RETRY_MAX_AGE_SECONDS: RangeInclusive<f64> = 1.0..=2_592_000.0;

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
            errors.check("retry.attempts", in_range(&retry.attempts, &RETRY_ATTEMPTS));
            let fields = [
                (
                    "retry.initial_seconds",
                    &retry.initial_seconds,
                    RETRY_INITIAL_SECONDS,
                ),
                ("retry.factor", &retry.factor, RETRY_FACTOR),
                ("retry.max_seconds", &retry.max_seconds, RETRY_MAX_SECONDS),
                (
                    "retry.max_age_seconds",
                    &retry.max_age_seconds,
                    RETRY_MAX_AGE_SECONDS,
                ),
            ];
            for (field, value, range) in fields {
                errors.check(field, in_range(value, &range));
            }
        }
        if kind == EndpointKind::Pull {
            self.check_pull(errors);
        }
    }

    /// Refuses settings that only matter for webhooks. Null and `ordered: false` are allowed, because they set nothing.
    fn check_pull(&self, errors: &mut FieldErrors) {
        let retry = self.retry.value();
        let is_set =
            |field: fn(&RetryForm) -> &Field<f64>| retry.is_some_and(|retry| field(retry).value().is_some());
        let set = [
            ("headers", self.headers.value().is_some()),
            ("format", self.format.value().is_some()),
            ("retry.initial_seconds", is_set(|retry| &retry.initial_seconds)),
            ("retry.factor", is_set(|retry| &retry.factor)),
            ("retry.max_seconds", is_set(|retry| &retry.max_seconds)),
            ("timeout_ms", self.timeout_ms.value().is_some()),
            ("max_in_flight", self.max_in_flight.value().is_some()),
            (
                "rate_limit_per_second",
                self.rate_limit_per_second.value().is_some(),
            ),
            ("ordered", self.ordered == Field::Value(true)),
            ("on_exhausted", self.on_exhausted.value().is_some()),
        ];
        for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
            errors.push(field, "must not stand beside the kind `pull`");
        }
    }

    fn check_url(&self, kind: EndpointKind, egress: &EgressConfig) -> Result<(), String> {
        match (kind, &self.url) {
            (EndpointKind::Push, Field::Value(url)) => check_url(url, egress),
            (EndpointKind::Push, Field::Null) => Err("must not be null".to_owned()),
            (EndpointKind::Pull, Field::Value(_)) => Err("must not stand beside the kind `pull`".to_owned()),
            (EndpointKind::Push, Field::Absent) | (EndpointKind::Pull, _) => Ok(()),
        }
    }
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
