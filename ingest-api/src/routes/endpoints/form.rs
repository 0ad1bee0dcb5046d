//! The body that makes or changes an endpoint.

mod checks;
pub(super) mod auth;
pub(super) mod auth_schema;
pub(super) mod new_endpoint;
pub(super) mod retry;
pub(crate) mod schema;
pub(super) mod signatures;
pub(super) mod signature_schema;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted, WebhookMethod};
use shared::domain::event_type::EventTypePattern;
use shared::domain::headers::{CustomHeaders, HeaderChanges};
use shared::domain::name::Tenant;
use shared::egress::EgressConfig;
use shared::hidden::SecretText;
use shared::secret::SigningSecret;
use utoipa::ToSchema;

use self::auth::AuthForm;
pub(crate) use self::checks::check_url;
use self::checks::{check_together, event_types};
use self::retry::RetryForm;
use self::signatures::SignatureForm;
use crate::domain::access::realm::Realm;
use crate::domain::endpoint::{DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_MS};
use crate::domain::form::field::Field;
use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::object;
use crate::domain::form::whole;
use crate::http::error::ApiError;
use crate::routes::endpoints::stored::Opened;
use crate::routes::trials::templates::form::TemplateForm;

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
    /// What must hold for an event. A change replaces the whole filter.
    #[serde(default)]
    #[schema(schema_with = schema::filter)]
    filter: Field<Box<RawValue>>,
    /// Further request headers, up to 20. In a change, a name with null is removed and those left out stay. Only for the kind
    /// `push`.
    #[serde(default)]
    #[schema(schema_with = schema::headers)]
    headers: Field<HeaderChanges>,
    /// `standard` unless given.
    #[serde(default)]
    #[schema(value_type = Option<Format>)]
    format: Field<Format>,
    /// `POST` unless given. Only for the kind `push`.
    #[serde(default)]
    #[schema(value_type = Option<WebhookMethod>)]
    method: Field<WebhookMethod>,
    /// The schemes that webhooks are signed with, up to 3 at once; `standard` unless given. A change replaces the whole list;
    /// in it `ed25519` keeps its key pair, and a header keeps its secret when none is given. Only for the kind `push`.
    #[serde(default, deserialize_with = "object::list")]
    #[schema(schema_with = signature_schema::schema)]
    signatures: Field<Vec<SignatureForm>>,
    /// What requests show besides their signature. A change replaces all of it. Only for the kind `push`.
    #[serde(default, deserialize_with = "object::field")]
    #[schema(schema_with = auth_schema::schema)]
    auth: Field<AuthForm>,
    /// The secret of the scheme `standard`: `whsec_` and 24 to 64 bytes in base64; a random one unless given. Only for a new
    /// endpoint of the kind `push`.
    #[schema(value_type = Option<String>)]
    pub secret: Option<SecretText>,
    /// Renders the body of webhooks. A change replaces the whole template. Only for the kind `push`, and not beside a `format`
    /// other than `standard`.
    #[serde(default, deserialize_with = "object::field")]
    #[schema(value_type = Option<TemplateForm>)]
    template: Field<TemplateForm>,
    /// Overrides the workers' retry policy. For the kind `pull`, only `attempts` and `max_age_seconds`.
    #[serde(default, deserialize_with = "object::field")]
    #[schema(value_type = Option<RetryForm>)]
    retry: Field<RetryForm>,
    /// How long one attempt may take, in milliseconds; 15 000 unless given. Only for the kind `push`.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 100, maximum = 30_000)]
    timeout_ms: Field<i32>,
    /// Most deliveries that one worker has in flight to it; 64 unless given. For the kind `pull`, most that are leased to all its
    /// consumers at once; no limit unless given.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 1_000)]
    max_in_flight: Field<i32>,
    /// Most deliveries a second from all workers, or to all consumers, together; no limit unless given.
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

    /// A new endpoint with these settings, and its signing secret.
    ///
    /// # Errors
    /// 422 with every wrong field.
    pub(crate) fn create(
        self,
        new: Opened,
        egress: &EgressConfig,
    ) -> Result<(Opened, SigningSecret), ApiError> {
        let kind = new.row.kind;
        let needs_url = kind.is_sent() && !self.url.is_present();
        let mut errors = FieldErrors::default();
        if needs_url {
            errors.push("url", "is missing");
        }
        let given = self.secret.as_ref().map(|text| text.reveal().parse());
        let secret = given.unwrap_or_else(|| Ok(SigningSecret::generate()));
        let secret = errors.check("secret", secret.map_err(|error| error.to_string()));
        self.check(kind, egress, &mut errors);
        let new = self.apply(new, egress, errors)?;
        let secret = secret.expect("a secret that is none is a wrong field");
        Ok((new, secret))
    }

    /// An endpoint after this change.
    ///
    /// # Errors
    /// 422 with every wrong field of the change.
    pub(crate) fn change(self, current: Opened, egress: &EgressConfig) -> Result<Opened, ApiError> {
        let row = &current.row;
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
            ("secret", self.secret.is_some()),
        ];
        for (field, _) in fixed.into_iter().filter(|(_, changes)| *changes) {
            errors.push(field, "cannot be changed");
        }
        self.check(row.kind, egress, &mut errors);
        self.apply(current, egress, errors)
    }

    fn apply(
        self,
        mut endpoint: Opened,
        egress: &EgressConfig,
        mut errors: FieldErrors,
    ) -> Result<Opened, ApiError> {
        let row = &mut endpoint.row;
        self.url.apply_to_option(&mut row.url);
        self.description.apply(&mut row.description, String::new());
        let types = self
            .event_types
            .map(|texts| event_types(&texts).unwrap_or_default());
        types.apply(&mut row.event_types, Vec::new());
        let filter = self.filter.map(|filter| filter.get().to_owned());
        filter.apply_to_option(&mut row.filter);
        match self.headers {
            Field::Absent => {}
            Field::Null => endpoint.headers = CustomHeaders::default(),
            Field::Value(changes) => {
                endpoint.headers.merge(changes);
                let map = endpoint.headers.to_map();
                errors.check("headers", map.map_err(|error| error.to_string()));
            }
        }
        match self.retry {
            Field::Absent => {}
            Field::Null => RetryForm::null().apply(row),
            Field::Value(retry) => retry.apply(row),
        }
        self.format.apply(&mut row.format.format, Format::default());
        self.method.apply(&mut row.method, WebhookMethod::default());
        match self.signatures {
            Field::Absent => {}
            Field::Null => endpoint.signatures = None,
            Field::Value(forms) => {
                let before = endpoint.signatures.take();
                endpoint.signatures = signatures::read(forms, before.as_ref(), &mut errors);
            }
        }
        match self.auth {
            Field::Absent => {}
            Field::Null => endpoint.auth = None,
            Field::Value(form) => endpoint.auth = form.read(egress, &mut errors),
        }
        match self.template {
            Field::Absent => {}
            Field::Null => (row.template, row.template_content_type) = (None, None),
            Field::Value(form) => {
                let given = form.read(&mut errors).map(|(_, given)| given);
                (row.template, row.template_content_type) =
                    given.map(|given| (given.body, given.content_type)).unzip();
            }
        }
        self.timeout_ms.apply(&mut row.timeout_ms, DEFAULT_TIMEOUT_MS);
        if row.kind.is_sent() {
            self.max_in_flight
                .apply(&mut row.max_in_flight, DEFAULT_MAX_IN_FLIGHT);
        } else {
            self.max_in_flight.apply_to_option(&mut row.max_leased);
        }
        self.rate_limit_per_second
            .apply_to_option(&mut row.rate_limit_per_second);
        self.ordered.apply(&mut row.ordered, false);
        self.on_exhausted
            .apply(&mut row.on_exhausted, OnExhausted::default());
        self.status.apply(&mut row.status, EndpointStatus::default());
        check_together(&endpoint, &mut errors);
        errors.finish()?;
        Ok(endpoint)
    }
}
