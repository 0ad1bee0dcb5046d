//! API keys, as their owners make, list, replace and revoke them.

use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use super::owners::lock_tenant;
use crate::domain::access::key::{Key, KeyId, NewKey};
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::domain::accounts::maximum::Maximum;
use crate::domain::accounts::tenant::TenantStatus;
use crate::domain::cursor::Cursor;
use crate::domain::page::Page;
use crate::store::{Result, Store, lock_organization};

/// Most keys that are neither revoked nor expired: of a tenant, and of an organisation besides those of its tenants.
const MAX_LIVE_KEYS: Maximum = Maximum {
    owner: "the organisation",
    what: "valid API keys",
    count: 1_000,
    remedy: "revoke",
};

/// A key, as its owner sees it.
struct KeyView {
    id: KeyId,
    name: String,
    scopes: Vec<String>,
    tenant: Option<Tenant>,
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
            scopes: Scopes::from_names(&row.scopes, row.tenant.is_some()),
            tenant: row.tenant,
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
pub(crate) struct KeyToStore<'a> {
    /// The key.
    pub new: &'a NewKey,
    /// What it will be for. Its tenant must exist.
    pub realm: &'a Realm,
    /// The calling key; None when the operator calls.
    pub caller: Option<&'a KeyId>,
    /// The owner's name for it.
    pub name: &'a str,
    /// What it may do.
    pub scopes: Scopes,
    /// When it will stop being valid; no later than the calling key.
    pub expires_at: Option<OffsetDateTime>,
}

/// The result of storing a key.
#[derive(Debug)]
pub(crate) enum KeyStored {
    /// It is stored.
    Done(Key),
    /// The calling key is not valid any more.
    Refused,
    /// The organisation, the tenant or the key to be replaced does not exist.
    Missing,
    /// There are as many keys as there may be.
    Full(Maximum),
}

/// The rotation of a key.
#[derive(Debug)]
pub(crate) struct Rotation<'a> {
    /// The calling key.
    pub caller: &'a KeyId,
    /// The key to be replaced.
    pub old: &'a KeyId,
    /// How long the old key stays valid. Zero revokes it at once.
    pub overlap: Duration,
    /// The new key. It gets the old key's name and scopes.
    pub new: &'a NewKey,
    /// When the new key will stop being valid; no later than the calling key.
    pub new_expires_at: Option<OffsetDateTime>,
}

impl Store {
    /// Stores a new key, unless there are [`MAX_LIVE_KEYS`].
    pub(crate) async fn create_key(&self, key: KeyToStore<'_>) -> Result<KeyStored> {
        let Realm { org_id, tenant } = key.realm;
        let mut transaction = self.begin_change(&self.key_changes).await?;
        if !lock_organization(&mut transaction, *org_id).await? {
            return Ok(KeyStored::Missing);
        }
        if let Some(tenant) = tenant {
            let status = lock_tenant(&mut transaction, *org_id, tenant).await?;
            if status.is_none_or(|status| status == TenantStatus::Deleting) {
                return Ok(KeyStored::Missing);
            }
        }
        let mut latest = None;
        if let Some(caller) = key.caller {
            match lock_caller(&mut transaction, *org_id, caller).await? {
                Some(caller) => latest = caller.expires_at,
                None => return Ok(KeyStored::Refused),
            }
        }
        if !has_room(&mut transaction, key.realm).await? {
            return Ok(KeyStored::Full(MAX_LIVE_KEYS.of_tenant(tenant.is_some())));
        }
        let row = sqlx::query_as!(
            KeyView,
            r#"insert into api_keys (id, org_id, name, hash, scopes, expires_at, tenant)
               values ($1, $2, $3, $4, $5, least($6, $7::timestamptz), $8)
               returning id as "id: KeyId", name, scopes, tenant as "tenant: Tenant", created_at, expires_at, last_used_at, revoked_at,
                         replaced_by as "replaced_by: KeyId""#,
            key.new.id.as_str(),
            org_id.as_uuid(),
            key.name,
            key.new.hash,
            &key.scopes.to_names(tenant.is_some()),
            key.expires_at,
            latest,
            key.realm.tenant(),
        );
        let row = row.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(KeyStored::Done(row.into()))
    }

    /// A key, also a revoked one.
    pub(crate) async fn get_key(&self, realm: &Realm, id: &KeyId) -> Result<Option<Key>> {
        let row = sqlx::query_as!(
            KeyView,
            r#"select id as "id: KeyId", name, scopes, tenant as "tenant: Tenant", created_at, expires_at, last_used_at,
                      revoked_at, replaced_by as "replaced_by: KeyId"
               from api_keys where org_id = $1 and id = $2 and ($3::text is null or tenant = $3)"#,
            realm.org_id.as_uuid(),
            id.as_str(),
            realm.tenant(),
        );
        Ok(row.fetch_optional(&self.key_changes).await?.map(Key::from))
    }

    /// A page of keys, newest first, with one more when there are more.
    pub(crate) async fn list_keys(&self, realm: &Realm, page: &Page<KeyId>) -> Result<Vec<Key>> {
        // Two branches, each with an index of its own.
        let rows = sqlx::query_as!(
            KeyView,
            r#"select id as "id!: KeyId", name as "name!", scopes as "scopes!", tenant as "tenant: Tenant",
                      created_at as "created_at!", expires_at, last_used_at, revoked_at,
                      replaced_by as "replaced_by: KeyId"
               from (
                   (select * from api_keys
                    where $5::text is null and org_id = $1
                      and (created_at, id) < ($2::timestamptz, $3::text)
                    order by created_at desc, id desc limit $4)
                   union all
                   (select * from api_keys
                    where org_id = $1 and tenant = $5
                      and (created_at, id) < ($2::timestamptz, $3::text)
                    order by created_at desc, id desc limit $4)
               ) k
               order by created_at desc, id desc"#,
            realm.org_id.as_uuid(),
            // Always there, as in `Page::before`.
            page.after.as_ref().map_or(Cursor::NEWEST.at, |cursor| cursor.at),
            page.after.as_ref().map_or("", |cursor| cursor.id.as_str()),
            page.limit + 1,
            realm.tenant(),
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Key::from).collect())
    }

    /// Revokes a key; one that is revoked already stays so. False when there is no such key.
    pub(crate) async fn revoke_key(&self, realm: &Realm, id: &KeyId) -> Result<bool> {
        let done = sqlx::query!(
            "update api_keys set revoked_at = coalesce(revoked_at, now())
             where org_id = $1 and id = $2 and ($3::text is null or tenant = $3)",
            realm.org_id.as_uuid(),
            id.as_str(),
            realm.tenant(),
        );
        let mut transaction = self.begin_change(&self.key_changes).await?;
        let done = done.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Replaces a key of this owner that may still be used and was not replaced before. One that stays valid for a while counts
    /// beside its successor: not while its owner has [`MAX_LIVE_KEYS`].
    pub(crate) async fn rotate_key(&self, realm: &Realm, rotation: &Rotation<'_>) -> Result<KeyStored> {
        let mut transaction = self.begin_change(&self.key_changes).await?;
        if !lock_organization(&mut transaction, realm.org_id).await? {
            return Ok(KeyStored::Missing);
        }
        let Some(caller) = lock_caller(&mut transaction, realm.org_id, rotation.caller).await? else {
            return Ok(KeyStored::Refused);
        };
        if !rotation.overlap.is_zero() && !has_room(&mut transaction, realm).await? {
            return Ok(KeyStored::Full(MAX_LIVE_KEYS.of_tenant(realm.tenant.is_some())));
        }
        let row = sqlx::query_as!(
            KeyView,
            r#"with old as (
                   select name, scopes, tenant from api_keys
                   where org_id = $1 and id = $2 and ($8::text is null or tenant = $8)
                     and revoked_at is null and replaced_by is null
                     and (expires_at is null or expires_at > now())
                   for update
               ),
               new as (
                   insert into api_keys (id, org_id, name, hash, scopes, expires_at, tenant)
                   select $3, $1, name, $4, scopes, least($5, $7::timestamptz), tenant from old
                   returning *
               ),
               replaced as (
                   update api_keys k
                   set replaced_by = new.id,
                       expires_at = least(k.expires_at, now() + $6 * interval '1 second'),
                       revoked_at = case when $6 = 0 then now() end
                   from new where k.org_id = $1 and k.id = $2
               )
               select id as "id: KeyId", name, scopes, tenant as "tenant: Tenant", created_at, expires_at, last_used_at,
                      revoked_at, replaced_by as "replaced_by: KeyId"
               from new"#,
            realm.org_id.as_uuid(),
            rotation.old.as_str(),
            rotation.new.id.as_str(),
            rotation.new.hash,
            rotation.new_expires_at,
            rotation.overlap.as_secs_f64(),
            caller.expires_at,
            realm.tenant(),
        );
        let row = row.fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(row.map_or(KeyStored::Missing, |row| KeyStored::Done(row.into())))
    }
}

/// The key that calls for a change.
struct LockedCaller {
    /// When it stops being valid. The keys that it makes end no later.
    expires_at: Option<OffsetDateTime>,
}

/// Keeps the calling key from being revoked before the transaction ends. So its change is committed before its
/// revocation, or not at all. None when the key is not valid any more.
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

/// Whether there may be one more key. The caller holds the organisation's lock.
async fn has_room(transaction: &mut Transaction, realm: &Realm) -> Result<bool> {
    let keys = sqlx::query_scalar!(
        r#"select count(*) as "count!" from (
               select from api_keys
               where org_id = $1 and tenant is not distinct from $3
                 and revoked_at is null and (expires_at is null or expires_at > now()) limit $2
           ) live"#,
        realm.org_id.as_uuid(),
        MAX_LIVE_KEYS.count,
        realm.tenant(),
    );
    Ok(keys.fetch_one(&mut **transaction).await? < MAX_LIVE_KEYS.count)
}
