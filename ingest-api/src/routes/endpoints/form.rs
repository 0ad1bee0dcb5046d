//! The body that makes or changes an endpoint.

mod checks;

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted};
use shared::domain::event_type::EventTypePattern;
use shared::domain::headers::HeaderChanges;
use shared::domain::name::Tenant;
use shared::egress::EgressConfig;
use utoipa::ToSchema;

pub(crate) use self::checks::check_url;
use self::checks::event_types;
use crate::domain::endpoint::{Limits, RetrySettings, Settings};
use crate::domain::field::Field;
use crate::domain::field_errors::FieldErrors;
use crate::domain::realm::Realm;
use crate::domain::whole;
use crate::http::error::ApiError;
use crate::routes::endpoints::schema;
use crate::store::EndpointRow;

/// The fields of a new endpoint, or of a change (JSON merge patch). In a change, a field that is left out stays, and
/// null sets the default.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndpointForm {
    /// `push` unless given. It cannot be changed.
    pub kind: Option<EndpointKind>,
    /// The tenant whose events it gets; the organisation's own events unless given. With a key that is bound to a tenant, that
    /// one. It cannot be changed.
    tenant: Option<Tenant>,
    /// Whether it gets the events of all tenants beside the organisation's own. It cannot be changed.
    all_tenants: Option<bool>,
    /// Whether the tenant is made if it is missing. Only for a new endpoint.
    create_tenant: Option<bool>,
    /// Where deliveries are sent: http or https, to a public address. Only for the kind `push`, which needs it.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = "uri", max_length = 2_048, pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://")]
    url: Field<String>,
    /// The owner's description, up to 1 000 bytes.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Field<String>,
    /// Event types, exact or as a prefix that ends in `*`, up to 100. An empty list means every type.
    #[serde(default)]
    #[schema(value_type = Option<Vec<EventTypePattern>>, max_items = 100)]
    event_types: Field<Vec<String>>,
    /// Conditions by JSON pointer into `data`: a value, or an object of `eq`, `ne`, `in`, `exists`, `gt`, `gte`, `lt`,
    /// `lte`. A change replaces the whole filter.
    #[serde(default)]
    #[schema(schema_with = schema::filter)]
    filter: Field<Box<RawValue>>,
    /// Further request headers, up to 20. In a change, a name with null is removed and those left out stay. Only for the kind
    /// `push`.
    #[serde(default)]
    #[schema(schema_with = schema::headers)]
    headers: Field<HeaderChanges>,
    /// `standard` unless given. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<Format>)]
    format: Field<Format>,
    /// Overrides the workers' retry policy. For the kind `pull`, only `attempts` and `max_age_seconds`.
    #[serde(default)]
    #[schema(value_type = Option<RetryForm>)]
    retry: Field<RetryForm>,
    /// How long one attempt may take, in milliseconds; 15 000 unless given. Only for the kind `push`.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 100, maximum = 30_000)]
    timeout_ms: Field<i32>,
    /// Most deliveries that one worker has in flight to it; 64 unless given. Only for the kind `push`.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1_000)]
    max_in_flight: Field<i32>,
    /// Most deliveries a second from all workers together; no limit unless given. Only for the kind `push`.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 10_000)]
    rate_limit_per_second: Field<i32>,
    /// Whether the deliveries of one ordering key are sent one after another. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    ordered: Field<bool>,
    /// What an ordered endpoint does when a delivery is out of attempts; `skip` unless given. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<OnExhausted>)]
    on_exhausted: Field<OnExhausted>,
    /// Whether the endpoint gets deliveries. Enabling it closes its circuit and resumes its pending deliveries.
    #[serde(default)]
    #[schema(value_type = Option<EndpointStatus>)]
    pub status: Field<EndpointStatus>,
}

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

/// Whose events a new endpoint gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointOwner {
    /// The tenant's; those of no tenant when there is none.
    pub tenant: Option<Tenant>,
    /// Those of all.
    pub all_tenants: bool,
    /// The tenant is made if it is missing.
    pub create_tenant: bool,
}

impl EndpointForm {
    /// Whose events a new endpoint gets.
    ///
    /// # Errors
    /// 422 when the fields contradict each other or the key.
    pub(crate) fn owner(&self, realm: &Realm) -> Result<EndpointOwner, ApiError> {
        let owner = EndpointOwner {
            tenant: realm.narrowed(self.tenant.clone())?.tenant,
            all_tenants: self.all_tenants.unwrap_or(false),
            create_tenant: self.create_tenant.unwrap_or(false),
        };
        let mut errors = FieldErrors::default();
        if owner.all_tenants && realm.tenant.is_some() {
            errors.push("all_tenants", "needs a key of the whole organisation");
        } else if owner.all_tenants && owner.tenant.is_some() {
            errors.push("all_tenants", "must not stand beside `tenant`");
        }
        if owner.create_tenant && owner.tenant.is_none() {
            errors.push("create_tenant", "needs `tenant`");
        }
        errors.finish()?;
        Ok(owner)
    }

    /// The settings of a new endpoint.
    ///
    /// # Errors
    /// 422 with every wrong field.
    pub(crate) fn create(self, egress: &EgressConfig) -> Result<Settings, ApiError> {
        let kind = self.kind.unwrap_or_default();
        let needs_url = kind == EndpointKind::Push && !self.url.is_present();
        let mut errors = FieldErrors::default();
        if needs_url {
            errors.push("url", "is missing");
        }
        self.check(kind, egress, &mut errors);
        self.apply(Settings::default(), errors)
    }

    /// The settings of an endpoint after this change.
    ///
    /// # Errors
    /// 422 with every wrong field of the change.
    pub(crate) fn change(
        self,
        row: &EndpointRow,
        current: Settings,
        egress: &EgressConfig,
    ) -> Result<Settings, ApiError> {
        let mut errors = FieldErrors::default();
        let changes_tenant = self.tenant.is_some() && self.tenant != row.tenant;
        let fixed = [
            ("kind", self.kind.is_some_and(|wanted| wanted != row.kind)),
            ("tenant", changes_tenant),
            (
                "all_tenants",
                self.all_tenants.is_some_and(|wanted| wanted != row.all_tenants),
            ),
            ("create_tenant", self.create_tenant.is_some()),
        ];
        for (field, _) in fixed.into_iter().filter(|(_, changes)| *changes) {
            errors.push(field, "cannot be changed");
        }
        self.check(row.kind, egress, &mut errors);
        self.apply(current, errors)
    }

    fn apply(self, mut settings: Settings, mut errors: FieldErrors) -> Result<Settings, ApiError> {
        let default = Limits::default();
        self.url.apply_to_option(&mut settings.url);
        self.description.apply(&mut settings.description, String::new());
        match self.event_types {
            Field::Absent => {}
            Field::Null => settings.event_types = Vec::new(),
            Field::Value(texts) => settings.event_types = event_types(&texts).unwrap_or_default(),
        }
        match self.filter {
            Field::Absent => {}
            Field::Null => settings.filter = None,
            Field::Value(filter) => settings.filter = Some(filter.get().to_owned()),
        }
        match self.headers {
            Field::Absent => {}
            Field::Null => settings.headers = shared::domain::headers::CustomHeaders::default(),
            Field::Value(changes) => {
                settings.headers.merge(changes);
                let map = settings.headers.to_map();
                errors.check("headers", map.map_err(|error| error.to_string()));
            }
        }
        match self.retry {
            Field::Absent => {}
            Field::Null => settings.retry = RetrySettings::default(),
            Field::Value(retry) => retry.apply(&mut settings.retry),
        }
        self.format.apply(&mut settings.format, Format::default());
        self.timeout_ms
            .apply(&mut settings.limits.timeout_ms, default.timeout_ms);
        self.max_in_flight
            .apply(&mut settings.limits.max_in_flight, default.max_in_flight);
        self.rate_limit_per_second
            .apply_to_option(&mut settings.rate_limit_per_second);
        self.ordered.apply(&mut settings.ordered, false);
        self.on_exhausted
            .apply(&mut settings.on_exhausted, OnExhausted::default());
        self.status.apply(&mut settings.status, EndpointStatus::default());
        errors.finish()?;
        Ok(settings)
    }
}

impl RetryForm {
    fn apply(self, retry: &mut RetrySettings) {
        let duration = |field: Field<f64>, slot: &mut Option<Duration>| match field {
            Field::Absent => {}
            Field::Null => *slot = None,
            Field::Value(seconds) => *slot = Duration::try_from_secs_f64(seconds).ok(),
        };
        self.attempts.apply_to_option(&mut retry.attempts);
        self.factor.apply_to_option(&mut retry.factor);
        duration(self.initial_seconds, &mut retry.initial);
        duration(self.max_seconds, &mut retry.max);
        duration(self.max_age_seconds, &mut retry.max_age);
    }
}
