//! What cannot be stored as an event, set aside with its bytes.

use bytes::Bytes;
use shared::db::limited::LimitedPool;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::shares::Owner;
use sqlx::PgExecutor;

/// Something that came out of a stream and cannot be stored as an event.
#[derive(Debug)]
pub(crate) struct Unreadable<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The message's sequence number in it.
    pub sequence: u64,
    /// Index of the event in its frame; `None` when it is the whole frame, or all of it that is one owner's.
    pub position: Option<usize>,
    /// The frame's version.
    pub frame_version: Option<&'a str>,
    /// Whose it is; `None` when its bytes do not say.
    pub owner: Option<Owner>,
    /// Why it cannot be stored.
    pub reason: String,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Unreadable<'_> {
    /// The position, as the table has it.
    fn place(&self) -> i32 {
        self.position
            .map_or(-1, |position| i32::try_from(position).unwrap_or(i32::MAX))
    }

    fn org_id(&self) -> Option<OrgId> {
        self.owner.as_ref().map(|(org_id, _)| *org_id)
    }

    fn tenant(&self) -> Option<&str> {
        self.owner.as_ref()?.1.as_ref().map(Tenant::as_str)
    }
}

/// Sets things aside for a person to look at, and returns how many were not there already, bytes and all. Other bytes at the
/// same place come from a stream that was deleted and made again.
///
/// # Errors
/// When Postgres does not answer. Then none is set aside, or all are.
pub(crate) async fn quarantine(
    pool: &LimitedPool,
    unreadable: &[Unreadable<'_>],
) -> Result<u64, sqlx::Error> {
    let sequence = |each: &Unreadable<'_>| i64::try_from(each.sequence).unwrap_or(i64::MAX);
    let done = sqlx::query!(
        "insert into quarantine (stream, sequence, position, frame_version, org_id, tenant, reason, bytes)
         select * from unnest($1::text[], $2::bigint[], $3::integer[], $4::text[], $5::uuid[], $6::text[], $7::text[],
                              $8::bytea[])
         on conflict do nothing",
        &unreadable.iter().map(|each| each.stream).collect::<Vec<_>>() as _,
        &unreadable.iter().map(sequence).collect::<Vec<_>>(),
        &unreadable.iter().map(Unreadable::place).collect::<Vec<_>>(),
        &unreadable.iter().map(|each| each.frame_version).collect::<Vec<_>>() as _,
        &unreadable.iter().map(|each| Some(each.org_id()?.as_uuid())).collect::<Vec<_>>() as _,
        &unreadable.iter().map(Unreadable::tenant).collect::<Vec<_>>() as _,
        &unreadable.iter().map(|each| each.reason.as_str()).collect::<Vec<_>>() as _,
        &unreadable.iter().map(|each| &*each.bytes).collect::<Vec<_>>() as _,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Removes at most `limit` things that say that they are an organisation's, or one of its tenants'. Returns how many.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn remove(
    database: impl PgExecutor<'_>,
    org_id: OrgId,
    tenant: Option<&Tenant>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        "delete from quarantine q
         using (
             select stream, sequence, position, digest from quarantine
             where org_id = $1 and ($2::text is null or tenant = $2) limit $3
         ) next
         where q.stream = next.stream and q.sequence = next.sequence and q.position = next.position
           and q.digest = next.digest",
        org_id.as_uuid(),
        tenant.map(Tenant::as_str),
        limit,
    )
    .execute(database)
    .await?;
    Ok(removed.rows_affected())
}
