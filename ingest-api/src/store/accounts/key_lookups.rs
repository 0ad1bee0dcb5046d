//! API keys, as requests use them: looked up, watched for changes, and noted as used.

use std::collections::HashSet;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::domain::tier::Tier;
use time::OffsetDateTime;

use crate::domain::access::grant::{Grant, fingerprint};
use crate::domain::access::key::KeyId;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::domain::accounts::limit::Limit;
use crate::store::{Result, Store};

/// A key that exists and is not revoked.
#[derive(Debug)]
pub(crate) struct KeyRow {
    /// PHC string of the whole key.
    pub hash: String,
    /// What it may do.
    pub grant: Grant,
}

/// The columns that a look-up selects.
struct Found {
    id: KeyId,
    org_id: OrgId,
    tenant: Option<Tenant>,
    hash: String,
    scopes: Vec<String>,
    expires_at: Option<OffsetDateTime>,
    tier: Tier,
    rate_limit_per_minute: Option<i64>,
}

impl From<Found> for KeyRow {
    fn from(found: Found) -> Self {
        let own = found
            .rate_limit_per_minute
            .and_then(|limit| u64::try_from(limit).ok());
        let limit = own.unwrap_or_else(|| found.tier.rate_limit_per_minute());
        Self {
            grant: Grant {
                scopes: Scopes::from_names(&found.scopes, found.tenant.is_some()),
                realm: Realm {
                    org_id: found.org_id,
                    tenant: found.tenant,
                },
                limit: Limit::per_minute(limit),
                expires_at: found.expires_at.map(UnixMicros::from),
                fingerprint: fingerprint(&found.hash),
            },
            hash: found.hash,
        }
    }
}

/// A key's last change.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChangedKey {
    /// The key.
    pub id: KeyId,
    /// When it was changed.
    pub at: OffsetDateTime,
}

/// A use of a key, to be written to Postgres.
#[derive(Debug)]
pub(crate) struct KeyUse<'a> {
    /// The key.
    pub id: &'a KeyId,
    /// The organisation that owns it.
    pub org_id: OrgId,
    /// When it was used, to the second.
    pub at: OffsetDateTime,
}

impl Store {
    /// Looks up a key that may be used.
    pub(crate) async fn find_key(&self, id: &KeyId) -> Result<Option<KeyRow>> {
        let found = sqlx::query_as!(
            Found,
            r#"select k.id as "id: KeyId", k.org_id as "org_id: OrgId", k.tenant as "tenant: Tenant", k.hash, k.scopes, k.expires_at,
                      o.tier as "tier: Tier", o.rate_limit_per_minute
               from api_keys k join organizations o on o.id = k.org_id
               where k.id = $1 and k.revoked_at is null"#,
            id.as_str(),
        );
        let found = found.fetch_optional(&self.key_lookups).await?;
        Ok(found.map(Into::into))
    }

    /// Looks up those of these keys that may be used.
    pub(crate) async fn find_keys(
        &self,
        keys: impl Iterator<Item = (&KeyId, OrgId)>,
    ) -> Result<Vec<(KeyId, KeyRow)>> {
        let (ids, org_ids): (Vec<_>, Vec<_>) = keys
            .map(|(id, org_id)| (id.to_string(), org_id.as_uuid()))
            .unzip();
        let found = sqlx::query_as!(
            Found,
            r#"select k.id as "id: KeyId", k.org_id as "org_id: OrgId", k.tenant as "tenant: Tenant", k.hash, k.scopes, k.expires_at,
                      o.tier as "tier: Tier", o.rate_limit_per_minute
               from unnest($1::text[], $2::uuid[]) as wanted (id, org_id)
               join api_keys k on k.id = wanted.id and k.org_id = wanted.org_id
               join organizations o on o.id = k.org_id
               where k.revoked_at is null"#,
            &ids,
            &org_ids,
        );
        let found = found.fetch_all(&self.key_lookups).await?;
        let rows = found.into_iter().map(|row| (row.id.clone(), row.into()));
        Ok(rows.collect())
    }

    /// The keys of all organisations that were changed in the last `within`, otherwise than by being used.
    pub(crate) async fn changed_keys(&self, within: Duration) -> Result<HashSet<ChangedKey>> {
        let rows = sqlx::query_as!(
            ChangedKey,
            r#"select id as "id: KeyId", changed_at as "at!" from api_keys
               where changed_at > now() - $1 * interval '1 second'"#,
            within.as_secs_f64(),
        );
        Ok(rows.fetch_all(&self.key_changes).await?.into_iter().collect())
    }

    /// Writes when keys were last used. A row that another replica is writing is left to it.
    pub(crate) async fn save_key_uses(&self, uses: impl Iterator<Item = KeyUse<'_>>) -> Result<()> {
        let (mut ids, mut org_ids, mut times) = (Vec::new(), Vec::new(), Vec::new());
        for key_use in uses {
            ids.push(key_use.id.to_string());
            org_ids.push(key_use.org_id.as_uuid());
            times.push(key_use.at);
        }
        let done = sqlx::query!(
            "with later as (
                 select k.id, k.org_id, used.at
                 from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as used (id, org_id, at)
                 join api_keys k on k.id = used.id and k.org_id = used.org_id
                 where k.last_used_at is null or k.last_used_at < used.at
                 for no key update of k skip locked
             )
             update api_keys k set last_used_at = later.at
             from later where k.id = later.id and k.org_id = later.org_id",
            &ids,
            &org_ids,
            &times,
        );
        done.execute(&self.key_changes).await?;
        Ok(())
    }
}
