//! Reading endpoints.

pub(super) mod row;
pub(super) mod json;
pub(super) mod creations;
pub(super) mod changes;
pub(super) mod hours;

use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use uuid::Uuid;

pub(crate) use self::row::EndpointRow;
use super::{Result, Store};
use crate::domain::access::realm::Realm;
use crate::domain::page::Page;

/// An endpoint, as far as a request about its deliveries needs it.
#[derive(Debug)]
pub(crate) struct BriefEndpointRow {
    pub tenant: Option<Tenant>,
    /// It is enabled, and so is its tenant where it has one.
    pub enabled: bool,
}

impl Store {
    /// One endpoint.
    pub(crate) async fn find_endpoint(&self, realm: &Realm, id: EndpointId) -> Result<Option<EndpointRow>> {
        let mut found = self.find_endpoints(realm, &[id.as_uuid()]).await?;
        Ok(found.pop())
    }

    /// One endpoint, without its settings.
    pub(crate) async fn find_brief_endpoint(
        &self,
        realm: &Realm,
        id: EndpointId,
    ) -> Result<Option<BriefEndpointRow>> {
        sqlx::query_as!(
            BriefEndpointRow,
            r#"select tenant as "tenant: Tenant", status = 'enabled' and tenant_enabled as "enabled!"
               from endpoints
               where id = $1 and org_id = $2 and ($3::text is null or tenant = $3) and deleted_at is null"#,
            id.as_uuid(),
            realm.org_id.as_uuid(),
            realm.tenant(),
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// A page of endpoints, newest first, with one more when there are more.
    pub(crate) async fn list_endpoints(&self, realm: &Realm, page: &Page<Uuid>) -> Result<Vec<EndpointRow>> {
        // Two branches, each with an index of its own.
        let ids = sqlx::query_scalar!(
            r#"(select id as "id!" from endpoints
                where $5::text is null and org_id = $1 and deleted_at is null
                  and (created_at, id) < ($2::timestamptz, $3::uuid)
                order by created_at desc, id desc limit $4)
               union all
               (select id from endpoints
                where org_id = $1 and tenant = $5 and deleted_at is null
                  and (created_at, id) < ($2::timestamptz, $3::uuid)
                order by created_at desc, id desc limit $4)"#,
            realm.org_id.as_uuid(),
            page.before().at,
            page.before().id,
            page.limit + 1,
            realm.tenant(),
        );
        let ids = ids.fetch_all(&self.pool).await?;
        self.find_endpoints(realm, &ids).await
    }
}
