//! `delivery-worker reseal`: encrypts stored secrets anew, under the first of `SECRETS_KEYS`.
//!
//! Each endpoint is a transaction of its own, which writes only over the ciphertexts that were read. So it may run beside
//! everything else, be killed and run again. Neither the endpoint's version nor `updated_at` changes: for its owner and for
//! the workers nothing has.

use std::fmt;

use anyhow::{Context as _, ensure};
use shared::credentials::Credentials;
use shared::domain::headers::CustomHeaders;
use shared::domain::id::EndpointId;
use shared::process::output::print;
use shared::secret::{SecretError, SecretsKey, SigningSecret};
use shared::signatures::Signatures;
use sqlx::PgPool;
use uuid::Uuid;

/// Endpoints that are read at once.
const PAGE: i64 = 200;

/// Reseals everything, and prints the counts.
///
/// # Errors
/// When Postgres does not answer or refuses, and when a secret opens with none of the keys.
pub(crate) async fn run(key: &SecretsKey, pool: &PgPool) -> anyhow::Result<()> {
    ensure!(
        key.names_itself(),
        "it needs SECRETS_KEYS, the first of which is to encrypt"
    );
    let mut outcome = Outcome::default();
    let run = reseal(key, pool, &mut outcome).await;
    let printed = print(&outcome.to_string()).await;
    run.and(printed)?;
    let unreadable = outcome.unreadable.len();
    ensure!(
        unreadable == 0,
        "{unreadable} endpoints have secrets that open with none of the keys"
    );
    Ok(())
}

/// Counts, for a person.
#[derive(Debug, Default)]
struct Outcome {
    resealed: u64,
    /// Endpoints with a secret that does not open, and why.
    unreadable: Vec<(EndpointId, SecretError)>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "endpoints resealed: {}", self.resealed)?;
        self.unreadable
            .iter()
            .try_for_each(|(id, error)| writeln!(f, "endpoint {id} stays: {error}"))
    }
}

/// The ciphertexts of an endpoint.
#[derive(Debug)]
struct Row {
    id: EndpointId,
    secret: Vec<u8>,
    previous_secret: Option<Vec<u8>>,
    headers: Option<Vec<u8>>,
    signatures: Option<Vec<u8>>,
    auth: Option<Vec<u8>>,
}

impl Row {
    fn resealed(&self, key: &SecretsKey) -> Result<Self, SecretError> {
        let reseal = |sealed: Option<&Vec<u8>>, context: &[u8]| {
            sealed.map(|sealed| key.reseal(sealed, context)).transpose()
        };
        // Of a deleted tenant's endpoints nothing is left to seal.
        let secret = Some(&self.secret).filter(|secret| !secret.is_empty());
        let secrets = SigningSecret::context(self.id);
        Ok(Self {
            id: self.id,
            secret: reseal(secret, &secrets)?.unwrap_or_default(),
            previous_secret: reseal(self.previous_secret.as_ref(), &secrets)?,
            headers: reseal(self.headers.as_ref(), &CustomHeaders::context(self.id))?,
            signatures: reseal(self.signatures.as_ref(), &Signatures::context(self.id))?,
            auth: reseal(self.auth.as_ref(), &Credentials::context(self.id))?,
        })
    }
}

async fn reseal(key: &SecretsKey, pool: &PgPool, outcome: &mut Outcome) -> anyhow::Result<()> {
    let mut changed = true;
    // What somebody else has changed meanwhile may be under the old key again.
    while std::mem::take(&mut changed) {
        outcome.unreadable.clear();
        let mut after = Uuid::nil();
        loop {
            let page = next_page(pool, key, after).await;
            let page = page.context("cannot read the secrets")?;
            let Some(last) = page.last() else { break };
            after = last.id.as_uuid();
            for row in &page {
                match row.resealed(key) {
                    Ok(resealed) => {
                        let written = write(pool, row, &resealed).await;
                        let written = written.context("cannot write the secrets")?;
                        outcome.resealed += u64::from(written);
                        changed |= !written;
                    }
                    Err(error) => outcome.unreadable.push((row.id, error)),
                }
            }
            tracing::info!(resealed = outcome.resealed, "resealing");
        }
    }
    Ok(())
}

/// The next endpoints with a secret that is not under the current key, deleted ones included.
async fn next_page(pool: &PgPool, key: &SecretsKey, after: Uuid) -> Result<Vec<Row>, sqlx::Error> {
    let mark = key.mark();
    let query = sqlx::query_as!(
        Row,
        r#"select id as "id: EndpointId", secret, previous_secret, headers, signatures, auth from endpoints
           where id > $1 and (secret <> '' and substr(secret, 1, $3) <> $2 or substr(previous_secret, 1, $3) <> $2
                              or substr(headers, 1, $3) <> $2 or substr(signatures, 1, $3) <> $2
                              or substr(auth, 1, $3) <> $2)
           order by id limit $4"#,
        after,
        mark,
        i32::try_from(mark.len()).unwrap_or(i32::MAX),
        PAGE,
    );
    query.fetch_all(pool).await
}

/// False when the endpoint is not any more as it was read.
async fn write(pool: &PgPool, old: &Row, new: &Row) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // The trigger that counts changes looks for it.
    sqlx::query!("select set_config('penstock.resealing', 'on', true)")
        .fetch_one(&mut *transaction)
        .await?;
    let written = sqlx::query!(
        "update endpoints set secret = $2, previous_secret = $3, headers = $4, signatures = $8, auth = $9
         where id = $1 and secret = $5 and previous_secret is not distinct from $6 and headers is not distinct from $7
           and signatures is not distinct from $10 and auth is not distinct from $11",
        old.id.as_uuid(),
        new.secret,
        new.previous_secret,
        new.headers,
        old.secret,
        old.previous_secret,
        old.headers,
        new.signatures,
        new.auth,
        old.signatures,
        old.auth,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(written.rows_affected() > 0)
}
