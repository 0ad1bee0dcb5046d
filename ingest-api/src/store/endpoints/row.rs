//! The columns of an endpoint: its row, and each statement that reads, makes or changes a whole one. A new setting is stored by
//! what stands here, besides its migration.

use serde::Serialize;
use shared::db::limited::LimitedPool;
use shared::domain::endpoint::{
    EndpointKind, EndpointStatus, Format, OnExhausted, StoredFormat, WebhookMethod,
};
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::access::realm::Realm;
use crate::domain::endpoint::{DEFAULT_MAX_IN_FLIGHT, DEFAULT_TIMEOUT_MS};
use crate::store::accounts::owners::{Admission, MAX_ENDPOINTS, MAX_ENDPOINTS_IN_ALL, MAX_TENANTS};
use crate::store::{Result, Store};

/// An endpoint, as it is stored. For a part of the retry policy that is None, the workers' policy holds.
///
/// Its JSON is what its owner has set, by the names of the columns: without what Postgres fills, and without those columns that
/// Postgres reads in another form, which [`super::json`] adds.
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

/// An endpoint that is to be made.
#[derive(Debug)]
pub(in crate::store) struct Creation {
    /// Its row, as JSON.
    pub row: String,
    pub tenant: Option<Tenant>,
    pub may_make_tenant: bool,
}

/// Whether an endpoint was made, and what Postgres gave it.
#[derive(Debug)]
pub(in crate::store) struct Made {
    pub admission: Admission,
    pub version: Option<i64>,
    pub created_at: OffsetDateTime,
}

impl Store {
    /// The endpoints with these ids, newest first. Missing ones are left out.
    pub(super) async fn find_endpoints(&self, realm: &Realm, ids: &[Uuid]) -> Result<Vec<EndpointRow>> {
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

    /// Replaces the settings of an endpoint by those of a row, as JSON. False when it has another version than `before`, or other
    /// ciphertexts (sealing them anew makes no version), or is deleted. With `close_circuit`, its failures are forgotten.
    pub(in crate::store) async fn replace_settings(
        &self,
        org_id: OrgId,
        before: &EndpointRow,
        row: &str,
        close_circuit: bool,
    ) -> Result<bool> {
        let (actor, address) = self.actor();
        sqlx::query_scalar!(
            r#"with changed as (
                   update endpoints e
                   set url = n.url, description = n.description, event_types = n.event_types, filter = n.filter,
                       headers = n.headers, format = n.format, method = n.method, signatures = n.signatures,
                       auth = n.auth, certificate_expires_at = n.certificate_expires_at, template = n.template,
                       template_content_type = n.template_content_type, retry_attempts = n.retry_attempts,
                       retry_initial_ms = n.retry_initial_ms, retry_factor = n.retry_factor,
                       retry_max_ms = n.retry_max_ms, retry_max_age_ms = n.retry_max_age_ms,
                       timeout_ms = n.timeout_ms, max_in_flight = n.max_in_flight, max_leased = n.max_leased,
                       rate_limit_per_second = n.rate_limit_per_second, ordered = n.ordered,
                       on_exhausted = n.on_exhausted, status = n.status,
                       disabled_reason = case when n.status = 'enabled' then null
                                              when e.status = 'disabled' then e.disabled_reason
                                              else n.disabled_reason end
                   from json_populate_record(null::endpoints, $4::text::json) as n
                   where e.id = $1 and e.org_id = $2 and e.version = $3 and e.deleted_at is null
                     and e.headers is not distinct from $8 and e.signatures is not distinct from $9
                     and e.auth is not distinct from $10 and act_as($6, $7)
                   returning e.id
               ),
               closed as (
                   delete from endpoint_health h using changed c
                   where $5 and h.endpoint_id = c.id and h.org_id = $2
               )
               select exists (select from changed) as "changed!""#,
            before.id.as_uuid(),
            org_id.as_uuid(),
            before.version,
            row,
            close_circuit,
            actor,
            address,
            before.headers,
            before.signatures,
            before.auth,
        )
        .fetch_one(&self.pool)
        .await
    }
}

/// Makes endpoints of an organisation by one statement, which the audit log ascribes to this actor and address. Returns what
/// became of each, in their order; nothing when the organisation does not exist or is being deleted.
pub(in crate::store) async fn insert(
    pool: &LimitedPool,
    org_id: OrgId,
    (actor, address): (&str, &str),
    creations: &[Creation],
) -> Result<Vec<Made>> {
    // What is made is written down in the audit log at the end of the statement, by the one that `act_as` names.
    sqlx::query_as!(
        Made,
        r#"with admitted as materialized (
               select place, admission, is_new_tenant, gets_events
               from admit_endpoints($1, $2, $3, $5, $6, $7)
           ),
           counted as materialized (
               select next_endpoint_version() as version
               where exists (select from admitted where admission = 'admitted') and act_as($8, $9)
           ),
           new_tenants as (
               insert into tenants (org_id, uid)
               select $1, ($2::text[])[a.place]
               from admitted a cross join counted
               where a.admission = 'admitted' and a.is_new_tenant
           ),
           new_endpoints as (
               insert into endpoints (id, org_id, kind, secret, url, description, event_types, filter, headers, format,
                                      retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                                      timeout_ms, max_in_flight, rate_limit_per_second, ordered, on_exhausted, status,
                                      disabled_reason, tenant, all_tenants, tenant_enabled, max_leased, method,
                                      signatures, auth, certificate_expires_at, template, template_content_type, version)
               select e.id, $1, e.kind, e.secret, e.url, e.description, e.event_types, e.filter, e.headers, e.format,
                      e.retry_attempts, e.retry_initial_ms, e.retry_factor, e.retry_max_ms, e.retry_max_age_ms,
                      e.timeout_ms, e.max_in_flight, e.rate_limit_per_second, e.ordered, e.on_exhausted, e.status,
                      e.disabled_reason, e.tenant, e.all_tenants, a.gets_events, e.max_leased, e.method,
                      e.signatures, e.auth, e.certificate_expires_at, e.template, e.template_content_type, c.version
               from admitted a cross join counted c
               cross join lateral json_populate_record(null::endpoints, ($4::text[])[a.place]::json) as e
               where a.admission = 'admitted'
           )
           select a.admission as "admission!: Admission", c.version as "version?",
                  -- The default of both times of a new endpoint.
                  now() as "created_at!"
           from admitted a left join counted c on true
           order by a.place"#,
        org_id.as_uuid(),
        &creations.iter().map(|creation| creation.tenant.as_ref().map(Tenant::as_str)).collect::<Vec<_>>() as _,
        &creations.iter().map(|creation| creation.may_make_tenant).collect::<Vec<_>>(),
        &creations.iter().map(|creation| &*creation.row).collect::<Vec<_>>() as _,
        MAX_ENDPOINTS.count,
        MAX_ENDPOINTS_IN_ALL.count,
        MAX_TENANTS.count,
        actor,
        address,
    )
    .fetch_all(pool)
    .await
}
