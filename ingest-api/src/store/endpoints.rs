//! Reading endpoints.

pub(super) mod row;
pub(super) mod json;

use shared::domain::id::EndpointId;
use uuid::Uuid;

pub(crate) use self::row::EndpointRow;
use super::{Result, Store};
use crate::domain::page::Page;
use crate::domain::realm::Realm;

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
