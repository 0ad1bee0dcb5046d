//! The ingest API's SQL.

use shared::id::{EndpointId, OrgId};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::api_key::KeyId;
use crate::rate_limit::Limit;
use crate::routes::endpoints::Endpoint;
use crate::routes::organizations::{Organization, Tier};

/// The database, as far as this service uses it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

/// A key that is neither unknown nor revoked.
#[derive(Debug)]
pub struct KeyRow {
    /// The organisation that owns it.
    pub org_id: OrgId,
    /// PHC string of the whole key.
    pub hash: String,
    /// Names of its scopes.
    pub scopes: Vec<String>,
    /// When it stops being valid.
    pub expires_at: Option<OffsetDateTime>,
    tier: String,
    rate_limit_per_minute: Option<i64>,
}

impl KeyRow {
    /// The organisation's rate limit: its own, else its tier's.
    pub fn limit(&self) -> Limit {
        let own = self
            .rate_limit_per_minute
            .and_then(|limit| u64::try_from(limit).ok());
        Limit::per_minute(own.unwrap_or_else(|| Tier::from_name(&self.tier).rate_limit_per_minute()))
    }
}

/// A key about to be stored.
#[derive(Debug)]
pub struct KeyToStore<'a> {
    /// The public part.
    pub id: &'a KeyId,
    /// The organisation that will own it.
    pub org_id: OrgId,
    /// What its owner calls it.
    pub name: &'a str,
    /// PHC string of the whole key.
    pub hash: &'a str,
    /// Names of its scopes.
    pub scopes: &'a [String],
}

type Result<T> = std::result::Result<T, sqlx::Error>;

impl Store {
    /// On this pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Looks up a key that may be used.
    pub async fn find_key(&self, id: &KeyId) -> Result<Option<KeyRow>> {
        sqlx::query_as!(
            KeyRow,
            r#"select k.org_id as "org_id: OrgId", k.hash, k.scopes, k.expires_at, o.tier, o.rate_limit_per_minute
               from api_keys k join organizations o on o.id = k.org_id
               where k.id = $1 and k.revoked_at is null"#,
            id.as_str(),
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// Stores a new organisation.
    pub async fn create_organization(&self, organization: &Organization) -> Result<()> {
        sqlx::query!(
            "insert into organizations (id, name, tier, rate_limit_per_minute) values ($1, $2, $3, $4)",
            organization.id.as_uuid(),
            organization.name,
            organization.tier.name(),
            organization.rate_limit_per_minute.map(i64::from),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Stores a new key. False when the organisation does not exist.
    pub async fn create_key(&self, key: KeyToStore<'_>) -> Result<bool> {
        let done = sqlx::query!(
            "insert into api_keys (id, org_id, name, hash, scopes)
             select $1, o.id, $3, $4, $5 from organizations o where o.id = $2",
            key.id.as_str(),
            key.org_id.as_uuid(),
            key.name,
            key.hash,
            key.scopes,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Stores a new endpoint with its sealed signing secret. False when the organisation does not exist.
    pub async fn create_endpoint(&self, org_id: OrgId, endpoint: &Endpoint, secret: &[u8]) -> Result<bool> {
        let done = sqlx::query!(
            "insert into endpoints (id, org_id, url, description, event_types, secret, max_in_flight, timeout_ms)
             select $1, o.id, $3, $4, $5, $6, $7, $8 from organizations o where o.id = $2",
            endpoint.id.as_uuid(),
            org_id.as_uuid(),
            endpoint.url,
            endpoint.description,
            &endpoint.event_types,
            secret,
            endpoint.max_in_flight,
            endpoint.timeout_ms,
        )
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// An organisation's endpoints, oldest first.
    pub async fn list_endpoints(&self, org_id: OrgId) -> Result<Vec<Endpoint>> {
        sqlx::query_as!(
            Endpoint,
            r#"select id as "id: EndpointId", url, description, event_types, max_in_flight, timeout_ms, status,
                      disabled_reason
               from endpoints where org_id = $1 and deleted_at is null order by created_at, id"#,
            org_id.as_uuid(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
