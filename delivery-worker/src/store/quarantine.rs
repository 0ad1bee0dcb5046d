//! What cannot be stored as an event, set aside with its bytes.

use shared::db::limited::LimitedPool;

/// Something that came out of a stream and cannot be stored as an event.
#[derive(Debug)]
pub(crate) struct Unreadable<'a> {
    /// The stream.
    pub stream: &'a str,
    /// The message's sequence number in it.
    pub sequence: u64,
    /// Index of the event in its frame; `None` when it is the whole frame.
    pub position: Option<usize>,
    /// The frame's version.
    pub frame_version: Option<&'a str>,
    /// Why it cannot be stored.
    pub reason: String,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Sets something aside for a person to look at. False when the same bytes were there already. Other bytes at the same
/// place come from a stream that was deleted and made again.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn quarantine(pool: &LimitedPool, unreadable: &Unreadable<'_>) -> Result<bool, sqlx::Error> {
    let position = unreadable
        .position
        .map_or(-1, |position| i32::try_from(position).unwrap_or(i32::MAX));
    let done = sqlx::query!(
        "insert into quarantine (stream, sequence, position, frame_version, reason, bytes)
         values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
        unreadable.stream,
        i64::try_from(unreadable.sequence).unwrap_or(i64::MAX),
        position,
        unreadable.frame_version,
        unreadable.reason,
        unreadable.bytes,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}
