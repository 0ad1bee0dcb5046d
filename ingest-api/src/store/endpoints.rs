//! Endpoints: their rows, and reading them.

use serde::Serialize;
use shared::domain::endpoint::{
    EndpointKind, EndpointStatus, Format, OnExhausted, StoredFormat, WebhookMethod,
};
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::endpoint::{DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_MS};
use crate::domain::page::Page;
use crate::domain::realm::Realm;

/// An endpoint, as it is stored. For a part of the retry policy that is None, the workers' policy holds.
///
/// As JSON it is the columns of a new one, by their names: without those that Postgres fills, and without those that it reads in
/// another form, which [`super::creations`] adds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct EndpointRow {
    pub id: EndpointId,
    pub kind: EndpointKind,
    pub tenant: Option<Tenant>,
    pub all_tenants: bool,
    pub url: Option<String>,
    pub description: String,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    /// Sealed.
    #[serde(skip)]
    pub headers: Option<Vec<u8>>,
    #[serde(skip)]
    pub format: StoredFormat,
    pub method: WebhookMethod,
    /// Sealed.
    #[serde(skip)]
    pub signatures: Option<Vec<u8>>,
    /// Sealed.
    #[serde(skip)]
    pub auth: Option<Vec<u8>>,
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    pub certificate_expires_at: Option<OffsetDateTime>,
    pub template: Option<String>,
    pub template_content_type: Option<String>,
    pub retry_attempts: Option<i32>,
    pub retry_initial_ms: Option<i64>,
    pub retry_factor: Option<f64>,
    pub retry_max_ms: Option<i64>,
    pub retry_max_age_ms: Option<i64>,
    pub timeout_ms: i32,
    pub max_in_flight: i32,
    /// Most deliveries of a pull endpoint that are leased at once.
    pub max_leased: Option<i32>,
    pub rate_limit_per_second: Option<i32>,
    pub ordered: bool,
    pub on_exhausted: OnExhausted,
    pub status: EndpointStatus,
    pub disabled_reason: Option<String>,
    #[serde(skip)]
    pub previous_secret_expires_at: Option<OffsetDateTime>,
    #[serde(skip)]
    pub created_at: OffsetDateTime,
    #[serde(skip)]
    pub updated_at: OffsetDateTime,
    /// Each change of the endpoint changes it.
    #[serde(skip)]
    pub version: i64,
    #[serde(skip)]
    pub consecutive_failures: Option<i32>,
    #[serde(skip)]
    pub failing_since: Option<OffsetDateTime>,
    #[serde(skip)]
    pub open_until: Option<OffsetDateTime>,
    /// Only while it is in the future.
    #[serde(skip)]
    pub waits_until: Option<OffsetDateTime>,
}

impl EndpointRow {
    /// An endpoint that is not stored yet, with the defaults of all that its owner may set. The database gives it its version and
    /// its times.
    pub(crate) fn new(id: EndpointId, kind: EndpointKind, tenant: Option<Tenant>, all_tenants: bool) -> Self {
        Self {
            id,
            kind,
            tenant,
            all_tenants,
            url: None,
            description: String::new(),
            event_types: Vec::new(),
            filter: None,
            headers: None,
            format: StoredFormat {
                format: Format::default(),
                has_more: false,
            },
            method: WebhookMethod::default(),
            signatures: None,
            auth: None,
            certificate_expires_at: None,
            template: None,
            template_content_type: None,
            retry_attempts: None,
            retry_initial_ms: None,
            retry_factor: None,
            retry_max_ms: None,
            retry_max_age_ms: None,
            timeout_ms: DEFAULT_TIMEOUT_MS,
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            max_leased: None,
            rate_limit_per_second: None,
            ordered: false,
            on_exhausted: OnExhausted::default(),
            status: EndpointStatus::default(),
            disabled_reason: None,
            previous_secret_expires_at: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            version: 0,
            consecutive_failures: None,
            failing_since: None,
            open_until: None,
            waits_until: None,
        }
    }
}

impl Store {
    /// One endpoint.
    pub(crate) async fn find_endpoint(&self, realm: &Realm, id: EndpointId) -> Result<Option<EndpointRow>> {
        let mut found = self.find_endpoints(realm, &[id.as_uuid()]).await?;
        Ok(found.pop())
    }

    /// A page of endpoints, newest first, with one more when there are more.
    pub(crate) async fn list_endpoints(&self, realm: &Realm, page: &Page<Uuid>) -> Result<Vec<EndpointRow>> {
        // Two branches, each with an index of its own.
        let ids = sqlx::query_scalar!(
            r#"(select id as "id!" from endpoints
                where $5::text is null and org_id = $1 and deleted_at is null
                  and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
                order by created_at desc, id desc limit $4)
               union all
               (select id from endpoints
                where org_id = $1 and tenant = $5 and deleted_at is null
                  and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
                order by created_at desc, id desc limit $4)"#,
            realm.org_id.as_uuid(),
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id),
            page.limit + 1,
            realm.tenant(),
        );
        let ids = ids.fetch_all(&self.pool).await?;
        self.find_endpoints(realm, &ids).await
    }

    /// The endpoints with these ids, newest first. Missing ones are left out.
    async fn find_endpoints(&self, realm: &Realm, ids: &[Uuid]) -> Result<Vec<EndpointRow>> {
        sqlx::query_as!(
            EndpointRow,
            r#"select e.id as "id: EndpointId", e.kind as "kind: EndpointKind", e.tenant as "tenant: Tenant",
                      e.all_tenants, e.url, e.description, e.event_types as "event_types: Vec<EventTypePattern>", e.filter, e.headers, e.format as "format: StoredFormat",
                      e.method as "method: WebhookMethod", e.signatures, e.auth, e.certificate_expires_at,
                      e.template, e.template_content_type, e.retry_attempts, e.retry_initial_ms,
                      e.retry_factor, e.retry_max_ms, e.retry_max_age_ms, e.timeout_ms, e.max_in_flight, e.max_leased,
                      e.rate_limit_per_second, e.ordered, e.on_exhausted as "on_exhausted: OnExhausted",
                      e.status as "status: EndpointStatus", e.disabled_reason,
                      case when e.previous_secret_expires_at > now()
                           then e.previous_secret_expires_at end as previous_secret_expires_at,
                      e.created_at, e.updated_at, e.version, h.consecutive_failures as "consecutive_failures?",
                      case when h.consecutive_failures > 0 then h.failing_since end as failing_since, h.open_until,
                      case when h.waits_until > now() then h.waits_until end as waits_until
               from unnest($2::uuid[]) as wanted (id)
               join endpoints e on e.id = wanted.id and e.org_id = $1 and e.deleted_at is null
                               and ($3::text is null or e.tenant = $3)
               left join endpoint_health h on h.endpoint_id = e.id and h.org_id = e.org_id
               order by e.created_at desc, e.id desc"#,
            realm.org_id.as_uuid(),
            ids,
            realm.tenant(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
