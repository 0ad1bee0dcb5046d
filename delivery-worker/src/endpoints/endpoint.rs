//! An endpoint as a worker uses it: read once from its row, when it is [first used](crate::endpoints::lazy), then shared by all
//! its deliveries.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream::BoxStream;
use hyper::Method;
use hyper::header::HeaderMap;
use shared::domain::endpoint::{EndpointKind, Format, OnExhausted, StoredFormat, WebhookMethod};
use shared::domain::event::{Event, JSON};
use shared::domain::event_type::EventTypePattern;
use shared::domain::filter::PayloadFilter;
use shared::domain::headers::CustomHeaders;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;
use shared::secret::{SecretsKey, SigningSecret};
use sqlx::PgConnection;
use time::OffsetDateTime;
use url::Url;

use crate::endpoints::permits::Gate;
use crate::endpoints::retry::RetryPolicy;
use crate::send::content::render::EndpointTemplate;
use crate::send::signing::credentials::Credentials;
use crate::send::signing::schemes::Schemes;
use crate::send::signing::sign::Signer;

/// An enabled endpoint that deliveries are sent to.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub id: EndpointId,
    pub org_id: OrgId,
    /// The number of its last change.
    pub version: i64,
    /// Whose it is; `None` when it is the organisation's own.
    pub tenant: Option<Tenant>,
    pub url: Url,
    /// How long an attempt may take.
    pub timeout: Duration,
    pub signer: Signer,
    /// What its owner adds to every request.
    pub headers: HeaderMap,
    /// The form of its deliveries.
    pub format: Format,
    /// How they are signed, unless that is the default.
    pub schemes: Option<Schemes>,
    /// What its requests show besides.
    pub credentials: Option<Arc<Credentials>>,
    /// The method of its requests.
    pub method: Method,
    /// What makes their bodies instead.
    pub template: Option<Arc<EndpointTemplate>>,
    /// Its deliveries say whose event it is.
    pub names_tenant: bool,
    /// When its failed deliveries are tried again.
    pub retry: RetryPolicy,
    /// Most deliveries a second of all workers together.
    pub rate_limit: Option<u32>,
    /// Deliveries that have an ordering key go out one after another.
    pub ordered: bool,
    /// What follows when such a delivery is out of attempts.
    pub on_exhausted: OnExhausted,
    /// What limits its deliveries in flight.
    pub gate: Arc<Gate>,
    max_in_flight: i32,
}

/// A row of `endpoints`.
#[derive(Debug)]
pub(crate) struct EndpointRow {
    pub id: EndpointId,
    pub org_id: OrgId,
    pub version: i64,
    pub kind: EndpointKind,
    pub url: Option<String>,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    pub secret: Vec<u8>,
    pub previous_secret: Option<Vec<u8>>,
    pub previous_secret_expires_at: Option<OffsetDateTime>,
    pub headers: Option<Vec<u8>>,
    pub format: StoredFormat,
    pub method: WebhookMethod,
    /// Sealed.
    pub signatures: Option<Vec<u8>>,
    /// Sealed.
    pub auth: Option<Vec<u8>>,
    pub template: Option<String>,
    pub template_content_type: Option<String>,
    pub max_in_flight: i32,
    pub timeout_ms: i32,
    pub rate_limit_per_second: Option<i32>,
    pub ordered: bool,
    pub on_exhausted: OnExhausted,
    pub retry_attempts: Option<i32>,
    pub retry_initial_ms: Option<i64>,
    pub retry_factor: Option<f64>,
    pub retry_max_ms: Option<i64>,
    pub retry_max_age_ms: Option<i64>,
    pub tenant: Option<Tenant>,
    pub all_tenants: bool,
    /// Neither disabled nor deleted, and its tenant is not disabled.
    pub enabled: bool,
}

/// Whose events an endpoint gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventsOf {
    /// The organisation's own.
    NoTenant,
    /// Those of one of its tenants.
    Tenant(Tenant),
    /// All.
    AllTenants,
}

impl Endpoint {
    /// Whether deliveries of this event may start as soon as they are stored. Otherwise the claimer sends them, which keeps
    /// rate limits and order.
    pub(crate) fn may_start(&self, event: &Event<'_>) -> bool {
        let keeps_order = self.ordered && event.ordering_key.is_some();
        self.rate_limit.is_none() && !keeps_order
    }
}

impl EndpointRow {
    /// The rows that are other than at this version, deleted ones included.
    pub(crate) fn changed_since(
        connection: &mut PgConnection,
        version: i64,
    ) -> BoxStream<'_, Result<Self, sqlx::Error>> {
        sqlx::query_as!(
            EndpointRow,
            r#"select id as "id: EndpointId", org_id as "org_id: OrgId", version, kind as "kind: EndpointKind", url,
                      event_types as "event_types: Vec<EventTypePattern>", filter, secret, previous_secret,
                      previous_secret_expires_at, headers, format as "format: StoredFormat",
                      method as "method: WebhookMethod", signatures, auth, template, template_content_type,
                      max_in_flight, timeout_ms,
                      rate_limit_per_second, ordered, on_exhausted as "on_exhausted: OnExhausted",
                      retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                      tenant as "tenant: Tenant", all_tenants,
                      (status = 'enabled' and tenant_enabled and deleted_at is null) as "enabled!"
               from endpoints where version > $1"#,
            version,
        )
        .fetch(connection)
    }

    /// Whose events it gets.
    pub(crate) fn events_of(&self) -> EventsOf {
        match &self.tenant {
            _ if self.all_tenants => EventsOf::AllTenants,
            Some(tenant) => EventsOf::Tenant(tenant.clone()),
            None => EventsOf::NoTenant,
        }
    }

    /// The endpoint's payload filter.
    ///
    /// # Errors
    /// When a later release wrote one that this build does not understand.
    pub(crate) fn filter(&self) -> anyhow::Result<Option<PayloadFilter>> {
        Ok(self.filter.as_deref().map(PayloadFilter::parse).transpose()?)
    }

    /// An endpoint of kind `push`. It keeps the gate of `known`, its state before, if the limit is the same.
    ///
    /// # Errors
    /// When something in the row cannot be used: `key` does not open its secrets, for example.
    pub(crate) fn endpoint(
        &self,
        known: Option<&Endpoint>,
        key: &SecretsKey,
        policy: &RetryPolicy,
    ) -> anyhow::Result<Endpoint> {
        let same_gate = known.filter(|known| known.max_in_flight == self.max_in_flight);
        let url = self.url.as_deref().context("it has no URL")?;
        let slots = usize::try_from(self.max_in_flight)?;
        let before = known.and_then(|known| known.credentials.as_ref());
        let headers = CustomHeaders::unseal(self.headers.as_deref(), key, self.id)?.to_map()?;
        Ok(Endpoint {
            id: self.id,
            org_id: self.org_id,
            version: self.version,
            tenant: self.tenant.clone(),
            url: url.parse()?,
            timeout: Duration::from_millis(u64::try_from(self.timeout_ms)?),
            signer: self.signer(key)?,
            schemes: Schemes::open(self.signatures.as_deref(), key, self.id, &headers)?,
            credentials: Credentials::open(self.auth.as_deref(), key, self.id, before)?,
            headers,
            format: self.format.format,
            template: self.template(known)?,
            method: match self.method {
                WebhookMethod::Post => Method::POST,
                WebhookMethod::Put => Method::PUT,
            },
            names_tenant: self.all_tenants,
            retry: self.retry(policy)?,
            rate_limit: self.rate_limit_per_second.map(u32::try_from).transpose()?,
            ordered: self.ordered,
            on_exhausted: self.on_exhausted,
            gate: same_gate.map_or_else(|| Arc::new(Gate::new(slots)), |known| known.gate.clone()),
            max_in_flight: self.max_in_flight,
        })
    }

    /// Its template: that of `known` if it is the same, which may have been read already.
    fn template(&self, known: Option<&Endpoint>) -> anyhow::Result<Option<Arc<EndpointTemplate>>> {
        let Some(source) = &self.template else {
            return Ok(None);
        };
        let content_type = self.template_content_type.as_deref().unwrap_or(JSON);
        let template = EndpointTemplate::new(source, content_type)?;
        let known = known.and_then(|known| known.template.as_ref());
        let same = known.filter(|known| known.is(&template)).cloned();
        Ok(Some(same.unwrap_or_else(|| Arc::new(template))))
    }

    fn signer(&self, key: &SecretsKey) -> anyhow::Result<Signer> {
        let unseal = |sealed: &[u8]| SigningSecret::unseal(sealed, key, self.id);
        let signer = Signer::new(&unseal(&self.secret)?);
        match (&self.previous_secret, self.previous_secret_expires_at) {
            (Some(previous), Some(expires_at)) => Ok(signer.with_previous(&unseal(previous)?, expires_at)),
            _ => Ok(signer),
        }
    }

    fn retry(&self, policy: &RetryPolicy) -> anyhow::Result<RetryPolicy> {
        let time = |millis: Option<i64>, default| {
            let millis = millis.map(u64::try_from).transpose()?;
            anyhow::Ok(millis.map_or(default, Duration::from_millis))
        };
        let attempts = self.retry_attempts.map(u32::try_from).transpose()?;
        let factor = self.retry_factor.unwrap_or(policy.retry_factor);
        anyhow::ensure!(factor.is_finite(), "its retry_factor is no number");
        Ok(RetryPolicy {
            retry_initial: time(self.retry_initial_ms, policy.retry_initial)?,
            retry_factor: factor,
            retry_max: time(self.retry_max_ms, policy.retry_max)?,
            retry_attempts: attempts.unwrap_or(policy.retry_attempts),
            retry_max_age: time(self.retry_max_age_ms, policy.retry_max_age)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
