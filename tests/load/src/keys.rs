//! Many API keys at once. The stored hashes are argon2id like any other, with the least memory that argon2 allows: a
//! hash says itself what it was made with, and a hundred thousand at full cost would take the better part of an hour.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, Version};
use data_encoding::BASE32_NOPAD;
use shared::secret::{KeyCheck, SecretsKey, random_bytes};
use sqlx::PgPool;
use uuid::Uuid;

const PREFIX: &str = "pk_live_";

/// Rows in one statement.
const CHUNK: usize = 5_000;

/// Keys, each of an organisation of its own.
#[derive(Debug)]
pub(crate) struct Keys(Vec<String>);

impl Keys {
    /// The key whose turn it is.
    pub(crate) fn get(&self, turn: u64) -> &str {
        let index = turn % self.0.len() as u64;
        &self.0[usize::try_from(index).expect("it is below a usize")]
    }

    /// The first key alone.
    pub(crate) fn first(&self) -> Self {
        Self(vec![self.0[0].clone()])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Makes keys that may send a million events a second each, and stores them.
    pub(crate) async fn create(
        database: &PgPool,
        secrets_key: &SecretsKey,
        count: usize,
    ) -> anyhow::Result<Self> {
        let check = KeyCheck::of(secrets_key).remove(0);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None)?);
        let mut keys = Vec::with_capacity(count);
        while keys.len() < count {
            let (mut orgs, mut ids, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..CHUNK.min(count - keys.len()) {
                let (id, text) = make_key(&check);
                let hash: PasswordHash = argon2.hash_password(text.as_bytes())?;
                orgs.push(Uuid::now_v7());
                ids.push(id);
                hashes.push(hash.to_string());
                keys.push(text);
            }
            store(database, &orgs, &ids, &hashes).await?;
        }
        Ok(Self(keys))
    }
}

fn make_key(check: &KeyCheck) -> (String, String) {
    let id = BASE32_NOPAD.encode(&random_bytes::<10>()).to_lowercase();
    let mut secret = [0; 40];
    let random = random_bytes::<32>();
    secret[..32].copy_from_slice(&random);
    let mut hasher = blake3::Hasher::new_keyed(check.as_bytes());
    hasher
        .update(PREFIX.as_bytes())
        .update(id.as_bytes())
        .update(&random);
    hasher.finalize_xof().fill(&mut secret[32..]);
    let text = format!("{PREFIX}{id}_{}", BASE32_NOPAD.encode(&secret).to_lowercase());
    (id, text)
}

async fn store(database: &PgPool, orgs: &[Uuid], ids: &[String], hashes: &[String]) -> anyhow::Result<()> {
    let organizations = sqlx::query(
        "insert into organizations (id, name, tier, rate_limit_per_minute)
         select id, 'load', 'enterprise', 60000000 from unnest($1) as o (id)",
    );
    organizations.bind(orgs).execute(database).await?;
    let keys = sqlx::query(
        "insert into api_keys (id, org_id, name, hash, scopes)
         select id, org_id, 'load', hash, '{ingest}' from unnest($1, $2, $3) as k (id, org_id, hash)",
    );
    keys.bind(ids).bind(orgs).bind(hashes).execute(database).await?;
    Ok(())
}
