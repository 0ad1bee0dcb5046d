//! Asking Postgres again about keys in memory.

use std::collections::HashMap;
use std::sync::Arc;

use super::Authenticator;
use super::turns::turn;
use crate::keys::api_key::Digest;
use crate::keys::cache::KeyChange;
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;
use crate::store::KeyRow;

/// Most keys in one statement.
const BATCH: usize = 500;

impl Authenticator {
    /// Asks Postgres again about a key in use, in the background and without argon2. Without an answer the key
    /// stays; when Postgres is back it is asked about all keys.
    pub(super) fn refresh(self: &Arc<Self>, digest: Digest, key: &Arc<VerifiedKey>, now: Moment) {
        if !self.cache.database_answers(now) || !key.begin_refresh() {
            return;
        }
        let (this, key) = (self.clone(), key.clone());
        self.tasks.clone().spawn("key refresh", async move {
            let asked_at = Moment::now();
            match this.find(&key.id).await {
                Ok(row) => this.refreshed(digest, &key, row, asked_at),
                Err(_) => key.end_refresh(),
            }
        });
    }

    /// Applies Postgres's answer to a key in memory. The verification stands while the hash is the same.
    fn refreshed(&self, digest: Digest, key: &VerifiedKey, row: Option<KeyRow>, asked_at: Moment) {
        let row = row.filter(|row| row.grant.fingerprint == key.grant.fingerprint);
        let Some(row) = row else {
            self.cache.change(&KeyChange::Key(key.id.clone()));
            self.share.discard(key.id.clone());
            return;
        };
        let refreshed = VerifiedKey::new(key.id.clone(), row.grant, asked_at);
        if let Some(refreshed) = self.cache.remember(digest, refreshed, asked_at) {
            self.share.offer(digest, &refreshed);
        }
    }

    /// Asks Postgres about every key in memory, because changes may have been missed.
    ///
    /// # Errors
    /// When Postgres does not answer; the keys that were not reached stay as they are.
    pub(crate) async fn refresh_all(&self) -> Result<usize, KeyError> {
        let keys = self.cache.back_in_touch();
        for batch in keys.chunks(BATCH) {
            let asked_at = Moment::now();
            let rows = {
                let _turn = turn(&self.lookups).await?;
                let keys = batch.iter().map(|(_, key)| (&key.id, key.grant.realm.org_id));
                self.store.find_keys(keys).await?
            };
            let mut rows: HashMap<_, _> = rows.into_iter().collect();
            for (digest, key) in batch {
                self.refreshed(*digest, key, rows.remove(&key.id), asked_at);
            }
        }
        Ok(keys.len())
    }
}
