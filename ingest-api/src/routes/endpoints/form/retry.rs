//! An endpoint's own retry policy, as requests set it and answers show it.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::ObjectBuilder;

use crate::domain::form::field::Field;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::domain::form::whole;
use crate::routes::endpoints::form::schema::named;
use crate::store::EndpointRow;

const ATTEMPTS: RangeInclusive<i32> = 1..=100;
const INITIAL_SECONDS: RangeInclusive<f64> = 0.1..=86_400.0;
const FACTOR: RangeInclusive<f64> = 1.0..=10.0;
const MAX_SECONDS: RangeInclusive<f64> = 1.0..=86_400.0;
const MAX_AGE_SECONDS: RangeInclusive<f64> = 1.0..=2_592_000.0;

/// An endpoint's own retry policy. For a field that is left out or null, the workers' policy holds; a pulled delivery
/// then has no such end.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryForm {
    /// Attempts after which a delivery is dead. For the kind `pull`, each lease is one.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 100)]
    attempts: Field<i32>,
    /// Longest wait after the first attempt. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 0.1, maximum = 86_400)]
    initial_seconds: Field<f64>,
    /// How many times longer each wait is than the one before. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 10)]
    factor: Field<f64>,
    /// Longest wait. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 86_400)]
    max_seconds: Field<f64>,
    /// Age after which a delivery that fails again is dead. For the kind `pull`, a delivery that nobody holds.
    #[serde(default)]
    #[schema(value_type = Option<f64>, minimum = 1, maximum = 2_592_000)]
    max_age_seconds: Field<f64>,
}

/// An endpoint's own retry policy.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::option_option,
    reason = "a field is left out where it has no meaning, and null where the workers decide"
)]
pub(crate) struct RetryView {
    /// Attempts after which a delivery is dead.
    attempts: Option<i32>,
    /// Longest wait after the first attempt. Only for the kind `push`, like `factor` and `max_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    initial_seconds: Option<Option<f64>>,
    /// How many times longer each wait is than the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    factor: Option<Option<f64>>,
    /// Longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    max_seconds: Option<Option<f64>>,
    /// Age after which a delivery that fails again is dead.
    max_age_seconds: Option<f64>,
}

impl RetryForm {
    /// Checks the fields that the form sets.
    pub(super) fn check(&self, errors: &mut FieldErrors) {
        let attempts = self.attempts.value();
        let checked = attempts.map_or(Ok(()), |attempts| check_range(attempts, &ATTEMPTS));
        errors.check("retry.attempts", checked);
        let fields = [
            ("retry.initial_seconds", &self.initial_seconds, INITIAL_SECONDS),
            ("retry.factor", &self.factor, FACTOR),
            ("retry.max_seconds", &self.max_seconds, MAX_SECONDS),
            ("retry.max_age_seconds", &self.max_age_seconds, MAX_AGE_SECONDS),
        ];
        for (name, field, range) in fields {
            let checked = field.value().map_or(Ok(()), |value| check_range(value, &range));
            errors.check(name, checked);
        }
    }

    /// The fields that the form sets and that only matter for webhooks.
    pub(super) fn set_for_webhooks(&self) -> Vec<&'static str> {
        let fields = [
            ("retry.initial_seconds", &self.initial_seconds),
            ("retry.factor", &self.factor),
            ("retry.max_seconds", &self.max_seconds),
        ];
        let set = fields.into_iter().filter(|(_, field)| field.value().is_some());
        set.map(|(name, _)| name).collect()
    }

    /// The schema of the fields that also matter where deliveries are fetched.
    pub(super) fn schema_of_fetched() -> ObjectBuilder {
        named("^(attempts|max_age_seconds)$")
    }

    /// The form that sets the workers' policy again.
    pub(super) fn null() -> Self {
        Self {
            attempts: Field::Null,
            initial_seconds: Field::Null,
            factor: Field::Null,
            max_seconds: Field::Null,
            max_age_seconds: Field::Null,
        }
    }

    /// Changes an endpoint's policy.
    pub(super) fn apply(self, row: &mut EndpointRow) {
        let time = |field: Field<f64>, column: &mut Option<i64>| match field {
            Field::Absent => {}
            Field::Null => *column = None,
            Field::Value(seconds) => *column = millis(seconds),
        };
        self.attempts.apply_to_option(&mut row.retry_attempts);
        self.factor.apply_to_option(&mut row.retry_factor);
        time(self.initial_seconds, &mut row.retry_initial_ms);
        time(self.max_seconds, &mut row.retry_max_ms);
        time(self.max_age_seconds, &mut row.retry_max_age_ms);
    }
}

impl RetryView {
    /// An endpoint's. Where deliveries are not sent, it has no waits.
    pub(in crate::routes::endpoints) fn new(row: &EndpointRow) -> Self {
        let is_sent = row.kind.is_sent();
        Self {
            attempts: row.retry_attempts,
            initial_seconds: is_sent.then(|| seconds(row.retry_initial_ms)),
            factor: is_sent.then_some(row.retry_factor),
            max_seconds: is_sent.then(|| seconds(row.retry_max_ms)),
            max_age_seconds: seconds(row.retry_max_age_ms),
        }
    }
}

/// Seconds of a form as a column holds them. None for what no time can be, which is a wrong field.
fn millis(seconds: f64) -> Option<i64> {
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    i64::try_from(time.as_millis()).ok()
}

fn seconds(millis: Option<i64>) -> Option<f64> {
    let millis = u64::try_from(millis?).ok()?;
    Some(Duration::from_millis(millis).as_secs_f64())
}
