//! API keys.

use std::collections::HashSet;
use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;
use shared::domain::tier::Tier;
use time::OffsetDateTime;

use super::{Result, Store, lock_organization};
use crate::domain::grant::{Grant, fingerprint};
use crate::domain::key::Key;
use crate::domain::key::{KeyId, NewKey};
use crate::domain::limit::Limit;
use crate::domain::page::Page;
use crate::domain::scope::Scopes;

/// Most keys of an organisation that are neither revoked nor expired.
pub const MAX_LIVE_KEYS: i64 = 1_000;

/// A key that is neither unknown nor revoked.
#[derive(Debug)]
pub struct KeyRow {
    /// PHC string of the whole key.
    pub hash: String,
    /// What it may do.
    pub grant: Grant,
}

/// What a look-up selects.
struct Found {
    id: KeyId,
    org_id: OrgId,
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
                org_id: found.org_id,
                limit: Limit::per_minute(limit),
                scopes: Scopes::from_names(&found.scopes),
                expires_at: found.expires_at.map(UnixMicros::from),
                fingerprint: fingerprint(&found.hash),
            },
            hash: found.hash,
        }
    }
}

/// A key, as its owner sees it.
struct KeyView {
    id: KeyId,
    name: String,
    scopes: Vec<String>,
    created_at: OffsetDateTime,
    expires_at: Option<OffsetDateTime>,
    last_used_at: Option<OffsetDateTime>,
    revoked_at: Option<OffsetDateTime>,
    replaced_by: Option<KeyId>,
}

impl From<KeyView> for Key {
    fn from(row: KeyView) -> Self {
        Self {
            id: row.id,
            name: row.name,
            scopes: Scopes::from_names(&row.scopes),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
            replaced_by: row.replaced_by,
        }
    }
}

/// A key about to be stored.
#[derive(Debug)]
pub struct KeyToStore<'a> {
    /// The key.
    pub new: &'a NewKey,
    /// The organisation that will own it.
    pub org_id: OrgId,
    /// The key that asks for it; none when the operator does.
    pub caller: Option<&'a KeyId>,
    /// What its owner calls it.
    pub name: &'a str,
    /// What it may do.
    pub scopes: Scopes,
    /// When it will stop being valid, and no later than the key that asks for it.
    pub expires_at: Option<OffsetDateTime>,
}

/// What came of storing a key.
#[derive(Debug)]
pub enum KeyStored {
    /// It is stored.
    Done(Key),
    /// The key that asks for it may not be used any more.
    Refused,
    /// What it belongs to, or takes the place of, is not there.
    Missing,
    /// The organisation has [`MAX_LIVE_KEYS`].
    Full,
}

/// A key's last change.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct ChangedKey {
    /// The key.
    pub id: KeyId,
    /// When it was changed.
    pub at: OffsetDateTime,
}

/// A use of a key that Postgres is to know of.
#[derive(Debug)]
pub struct KeyUse<'a> {
    /// The key.
    pub id: &'a KeyId,
    /// The organisation that owns it.
    pub org_id: OrgId,
    /// When it was used, to the second.
    pub at: OffsetDateTime,
}

/// What a rotation does.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The key that asks for it.
    pub caller: &'a KeyId,
    /// The key to be replaced.
    pub old: &'a KeyId,
    /// How long it stays valid; revoked at once when that is no time.
    pub overlap: Duration,
    /// The key that takes its place, its name and its scopes.
    pub new: &'a NewKey,
    /// When the new key will stop being valid, and no later than the key that asks for it.
    pub new_expires_at: Option<OffsetDateTime>,
}

impl Store {
    /// Looks up a key that may be used.
    pub async fn find_key(&self, id: &KeyId) -> Result<Option<KeyRow>> {
        let found = sqlx::query_as!(
            Found,
            r#"select k.id as "id: KeyId", k.org_id as "org_id: OrgId", k.hash, k.scopes, k.expires_at,
                      o.tier as "tier: Tier", o.rate_limit_per_minute
               from api_keys k join organizations o on o.id = k.org_id
               where k.id = $1 and k.revoked_at is null"#,
            id.as_str(),
        );
        let found = found.fetch_optional(&self.key_lookups).await?;
        Ok(found.map(Into::into))
    }

    /// Looks up those of these keys that may be used.
    pub async fn find_keys(
        &self,
        keys: impl Iterator<Item = (&KeyId, OrgId)>,
    ) -> Result<Vec<(KeyId, KeyRow)>> {
        let (ids, org_ids): (Vec<_>, Vec<_>) = keys
            .map(|(id, org_id)| (id.to_string(), org_id.as_uuid()))
            .unzip();
        let found = sqlx::query_as!(
            Found,
            r#"select k.id as "id: KeyId", k.org_id as "org_id: OrgId", k.hash, k.scopes, k.expires_at,
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

    /// Stores a new key, unless the organisation has [`MAX_LIVE_KEYS`].
    pub async fn create_key(&self, key: KeyToStore<'_>) -> Result<KeyStored> {
        let mut transaction = self.key_changes.begin().await?;
        if !lock_organization(&mut transaction, key.org_id).await? {
            return Ok(KeyStored::Missing);
        }
        let mut latest = None;
        if let Some(caller) = key.caller {
            match lock_caller(&mut transaction, key.org_id, caller).await? {
                Some(caller) => latest = caller.expires_at,
                None => return Ok(KeyStored::Refused),
            }
        }
        if !has_room(&mut transaction, key.org_id).await? {
            return Ok(KeyStored::Full);
        }
        let row = sqlx::query_as!(
            KeyView,
            r#"insert into api_keys (id, org_id, name, hash, scopes, expires_at)
               values ($1, $2, $3, $4, $5, least($6, $7::timestamptz))
               returning id as "id: KeyId", name, scopes, created_at, expires_at, last_used_at, revoked_at,
                         replaced_by as "replaced_by: KeyId""#,
            key.new.id.as_str(),
            key.org_id.as_uuid(),
            key.name,
            key.new.hash,
            &key.scopes.to_names(),
            key.expires_at,
            latest,
        );
        let row = row.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(KeyStored::Done(row.into()))
    }

    /// An organisation's key, also a revoked one.
    pub async fn get_key(&self, org_id: OrgId, id: &KeyId) -> Result<Option<Key>> {
        let row = sqlx::query_as!(
            KeyView,
            r#"select id as "id: KeyId", name, scopes, created_at, expires_at, last_used_at, revoked_at,
                      replaced_by as "replaced_by: KeyId"
               from api_keys where org_id = $1 and id = $2"#,
            org_id.as_uuid(),
            id.as_str(),
        );
        Ok(row.fetch_optional(&self.key_changes).await?.map(Key::from))
    }

    /// A page of an organisation's keys, newest first, with one more when there are more.
    pub async fn list_keys(&self, org_id: OrgId, page: &Page<KeyId>) -> Result<Vec<Key>> {
        let rows = sqlx::query_as!(
            KeyView,
            r#"select id as "id: KeyId", name, scopes, created_at, expires_at, last_used_at, revoked_at,
                      replaced_by as "replaced_by: KeyId"
               from api_keys
               where org_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3::text))
               order by created_at desc, id desc
               limit $4"#,
            org_id.as_uuid(),
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id.as_str()),
            page.limit + 1,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Key::from).collect())
    }

    /// Revokes a key; one that is revoked already stays so. False when the organisation has no such key.
    pub async fn revoke_key(&self, org_id: OrgId, id: &KeyId) -> Result<bool> {
        let done = sqlx::query!(
            "update api_keys set revoked_at = coalesce(revoked_at, now()) where org_id = $1 and id = $2",
            org_id.as_uuid(),
            id.as_str(),
        );
        Ok(done.execute(&self.key_changes).await?.rows_affected() == 1)
    }

    /// The keys of all organisations that were changed in the last `within`, otherwise than by being used.
    pub async fn changed_keys(&self, within: Duration) -> Result<HashSet<ChangedKey>> {
        let rows = sqlx::query_as!(
            ChangedKey,
            r#"select id as "id: KeyId", changed_at as "at!" from api_keys
               where changed_at > now() - $1 * interval '1 second'"#,
            within.as_secs_f64(),
        );
        Ok(rows.fetch_all(&self.key_changes).await?.into_iter().collect())
    }

    /// Replaces a key that may still be used and was not replaced before. One that stays valid for a while counts beside
    /// its successor: not while the organisation has [`MAX_LIVE_KEYS`].
    pub async fn rotate_key(&self, org_id: OrgId, rotation: &Rotation<'_>) -> Result<KeyStored> {
        let mut transaction = self.key_changes.begin().await?;
        if !lock_organization(&mut transaction, org_id).await? {
            return Ok(KeyStored::Missing);
        }
        let Some(caller) = lock_caller(&mut transaction, org_id, rotation.caller).await? else {
            return Ok(KeyStored::Refused);
        };
        if !rotation.overlap.is_zero() && !has_room(&mut transaction, org_id).await? {
            return Ok(KeyStored::Full);
        }
        let row = sqlx::query_as!(
            KeyView,
            r#"with old as (
                   select name, scopes from api_keys
                   where org_id = $1 and id = $2 and revoked_at is null and replaced_by is null
                     and (expires_at is null or expires_at > now())
                   for update
               ),
               new as (
                   insert into api_keys (id, org_id, name, hash, scopes, expires_at)
                   select $3, $1, name, $4, scopes, least($5, $7::timestamptz) from old
                   returning *
               ),
               replaced as (
                   update api_keys k
                   set replaced_by = new.id,
                       expires_at = least(k.expires_at, now() + $6 * interval '1 second'),
                       revoked_at = case when $6 = 0 then now() end
                   from new where k.org_id = $1 and k.id = $2
               )
               select id as "id: KeyId", name, scopes, created_at, expires_at, last_used_at, revoked_at,
                      replaced_by as "replaced_by: KeyId"
               from new"#,
            org_id.as_uuid(),
            rotation.old.as_str(),
            rotation.new.id.as_str(),
            rotation.new.hash,
            rotation.new_expires_at,
            rotation.overlap.as_secs_f64(),
            caller.expires_at,
        );
        let row = row.fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(row.map_or(KeyStored::Missing, |row| KeyStored::Done(row.into())))
    }

    /// Writes when keys were last used. A row that another replica is writing is left to it.
    pub async fn save_key_uses(&self, uses: impl Iterator<Item = KeyUse<'_>>) -> Result<()> {
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

/// A key that asks for a change.
struct LockedCaller {
    /// When it stops being valid: so do the keys that it makes.
    expires_at: Option<OffsetDateTime>,
}

/// Keeps the key that asks for a change from being revoked before the transaction ends: what a key brought about is there
/// before its revocation is, or not at all. Nothing when it may not be used any more.
async fn lock_caller(
    transaction: &mut Transaction,
    org_id: OrgId,
    caller: &KeyId,
) -> Result<Option<LockedCaller>> {
    let found = sqlx::query_as!(
        LockedCaller,
        r#"select expires_at from api_keys
           where org_id = $1 and id = $2 and revoked_at is null
             and (expires_at is null or expires_at > clock_timestamp())
           for share"#,
        org_id.as_uuid(),
        caller.as_str(),
    );
    found.fetch_optional(&mut **transaction).await
}

/// Whether an organisation may have one more key. To be asked under its lock.
async fn has_room(transaction: &mut Transaction, org_id: OrgId) -> Result<bool> {
    let keys = sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
               select from api_keys
               where org_id = $1 and revoked_at is null and (expires_at is null or expires_at > now()) limit $2
           ) live"#,
        org_id.as_uuid(),
        MAX_LIVE_KEYS,
    );
    Ok(keys.fetch_one(&mut **transaction).await? < MAX_LIVE_KEYS)
}
