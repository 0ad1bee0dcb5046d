//! API keys.

use shared::id::OrgId;
use time::OffsetDateTime;

use super::{Result, Store};
use crate::api_key::KeyId;
use crate::rate_limit::Limit;
use crate::routes::organizations::Tier;

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

impl Store {
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
}
