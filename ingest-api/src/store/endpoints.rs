//! Endpoints.

use shared::id::{EndpointId, OrgId};

use super::{Result, Store};
use crate::routes::endpoints::{Endpoint, EndpointKind};

impl Store {
    /// Stores a new endpoint with its sealed signing secret. False when the organisation does not exist.
    pub async fn create_endpoint(&self, org_id: OrgId, endpoint: &Endpoint, secret: &[u8]) -> Result<bool> {
        let done = sqlx::query!(
            "insert into endpoints (id, org_id, kind, url, description, event_types, secret, max_in_flight, timeout_ms)
             select $1, o.id, $9, $3, $4, $5, $6, $7, $8 from organizations o where o.id = $2",
            endpoint.id.as_uuid(),
            org_id.as_uuid(),
            endpoint.url,
            endpoint.description,
            &endpoint.event_types,
            secret,
            endpoint.max_in_flight,
            endpoint.timeout_ms,
            endpoint.kind as _,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// An organisation's endpoints, oldest first.
    pub async fn list_endpoints(&self, org_id: OrgId) -> Result<Vec<Endpoint>> {
        sqlx::query_as!(
            Endpoint,
            r#"select id as "id: EndpointId", kind as "kind: EndpointKind", url, description, event_types,
                      max_in_flight, timeout_ms, status, disabled_reason
               from endpoints where org_id = $1 and deleted_at is null order by created_at, id"#,
            org_id.as_uuid(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
