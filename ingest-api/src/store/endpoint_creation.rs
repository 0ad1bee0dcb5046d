//! Making endpoints: one statement, as every [change](super::endpoint_changes) of them, and it also tells what the answer shows.

use shared::domain::endpoint::{EndpointKind, EndpointStatus};
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use super::endpoint_changes::{EndpointToStore, millis, template_content_type, template_source};
use super::endpoints::EndpointRow;
use super::owners::{Admission, MAX_ENDPOINTS, MAX_ENDPOINTS_IN_ALL, MAX_TENANTS};
use super::{Result, Store, Stored};

/// What is fixed when an endpoint is made.
#[derive(Debug)]
pub(crate) struct Fixed<'a> {
    /// Whether its owner fetches its deliveries.
    pub kind: EndpointKind,
    /// The tenant that it belongs to.
    pub tenant: Option<&'a Tenant>,
    /// Whether it gets the events of all tenants.
    pub all_tenants: bool,
    /// Whether a tenant that is missing is made.
    pub create_tenant: bool,
}

impl Store {
    /// Stores a new endpoint with its sealed signing secret, unless there are as many as there may be. Returns it as it is
    /// stored.
    pub(crate) async fn create_endpoint(
        &self,
        org_id: OrgId,
        fixed: &Fixed<'_>,
        new: &EndpointToStore<'_>,
        secret: &[u8],
    ) -> Result<Stored<EndpointRow>> {
        let settings = new.settings;
        let (actor, address) = self.actor();
        let answer = sqlx::query!(
            r#"with owner as materialized (
                   select admission, is_new_tenant, gets_events from admit_endpoint($2, $23, $25, $33, $34, $35)
                   where act_as($36, $37)
               ),
               new_tenant as (
                   insert into tenants (org_id, uid)
                   select $2, $23 from owner where admission = 'admitted' and is_new_tenant
               ),
               new_endpoint as (
                   insert into endpoints (id, org_id, kind, secret, url, description, event_types, filter, headers, format,
                                          retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                                          timeout_ms, max_in_flight, rate_limit_per_second, ordered, on_exhausted, status,
                                          disabled_reason, tenant, all_tenants, tenant_enabled, max_leased, method,
                                          signatures, auth, certificate_expires_at, template, template_content_type)
                   select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                          $22, $23, $24, gets_events, $26, $27, $28, $29, $30, $31, $32
                   from owner where admission = 'admitted'
                   returning version, created_at
               )
               select admission as "admission!: Admission", version as "version?", created_at as "created_at?"
               from owner left join new_endpoint on true"#,
            new.id.as_uuid(),
            org_id.as_uuid(),
            fixed.kind as _,
            secret,
            settings.url,
            settings.description,
            &settings.event_types as _,
            settings.filter,
            new.headers,
            settings.stored_format().to_string(),
            settings.retry.attempts,
            millis(settings.retry.initial),
            settings.retry.factor,
            millis(settings.retry.max),
            millis(settings.retry.max_age),
            settings.limits.timeout_ms,
            settings.limits.max_in_flight,
            settings.rate_limit_per_second,
            settings.ordered,
            settings.on_exhausted as _,
            settings.status as _,
            disabled_reason(new),
            fixed.tenant.map(Tenant::as_str),
            fixed.all_tenants,
            fixed.create_tenant,
            settings.max_leased,
            settings.method as _,
            new.signatures,
            new.auth,
            settings.certificate_expires_at(),
            template_source(settings),
            template_content_type(settings),
            MAX_ENDPOINTS.count,
            MAX_ENDPOINTS_IN_ALL.count,
            MAX_TENANTS.count,
            actor,
            address,
        );
        let Some(answer) = answer.fetch_optional(&self.pool).await? else {
            return Ok(Stored::Missing);
        };
        let made = answer.version.zip(answer.created_at);
        answer.admission.into_stored(fixed.tenant, || {
            let (version, at) = made.ok_or(sqlx::Error::RowNotFound)?;
            Ok(as_stored(fixed, new, version, at))
        })
    }
}

fn disabled_reason(new: &EndpointToStore<'_>) -> Option<&'static str> {
    (new.settings.status == EndpointStatus::Disabled).then_some(new.disabled_reason)
}

/// The row of an endpoint that was made at this time: each column as the statement has set it.
fn as_stored(fixed: &Fixed<'_>, new: &EndpointToStore<'_>, version: i64, at: OffsetDateTime) -> EndpointRow {
    let settings = new.settings;
    EndpointRow {
        id: new.id,
        kind: fixed.kind,
        tenant: fixed.tenant.cloned(),
        all_tenants: fixed.all_tenants,
        url: settings.url.clone(),
        description: settings.description.clone(),
        event_types: settings.event_types.clone(),
        filter: settings.filter.clone(),
        headers: new.headers.clone(),
        format: settings.stored_format(),
        method: settings.method,
        signatures: new.signatures.clone(),
        auth: new.auth.clone(),
        certificate_expires_at: settings.certificate_expires_at(),
        template: template_source(settings).map(str::to_owned),
        template_content_type: template_content_type(settings).map(str::to_owned),
        retry_attempts: settings.retry.attempts,
        retry_initial_ms: millis(settings.retry.initial),
        retry_factor: settings.retry.factor,
        retry_max_ms: millis(settings.retry.max),
        retry_max_age_ms: millis(settings.retry.max_age),
        timeout_ms: settings.limits.timeout_ms,
        max_in_flight: settings.limits.max_in_flight,
        max_leased: settings.max_leased,
        rate_limit_per_second: settings.rate_limit_per_second,
        ordered: settings.ordered,
        on_exhausted: settings.on_exhausted,
        status: settings.status,
        disabled_reason: disabled_reason(new).map(str::to_owned),
        previous_secret_expires_at: None,
        created_at: at,
        updated_at: at,
        version,
        consecutive_failures: None,
        failing_since: None,
        open_until: None,
        waits_until: None,
    }
}
