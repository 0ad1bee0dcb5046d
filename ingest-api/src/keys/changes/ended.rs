//! Which sessions were ended before their time.
//!
//! A session is a statement that every replica can read, so its end must be known everywhere. A replica that is asked for a
//! session first reads what was ended since it last looked, unless it looked within [`FRESH`]. So an end holds on every replica
//! within a second, needs no signal, and costs nothing where nobody uses sessions. Without Postgres no session is let in: what
//! its people look at lies there too.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;
use tokio::sync::Mutex;

use crate::domain::access::session::{PortalSession, SessionId, TenantMark};
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::single_flight::Failure;
use crate::store::{EndedRow, LATE_COMMIT, Store};

/// How long what was read is good for.
const FRESH: Duration = Duration::from_millis(400);

/// The ended sessions, as Postgres had them when it was last asked.
#[derive(Debug)]
pub(crate) struct EndedSessions {
    store: Store,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    read_at: Option<Moment>,
    /// The last reading that failed, for the requests that were waiting for it.
    failure: Option<Failure>,
    /// Until when each one matters.
    sessions: HashMap<(Option<OrgId>, SessionId), UnixMicros>,
    /// Sessions of a tenant that were made up to then have ended.
    tenants: HashMap<TenantMark, Ended>,
    /// Sessions of an organisation's tenants that were made up to then have ended.
    organizations: HashMap<OrgId, Ended>,
}

#[derive(Clone, Copy, Debug)]
struct Ended {
    at: UnixMicros,
    keep_until: UnixMicros,
}

impl EndedSessions {
    /// Knows nothing until it is first asked.
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            known: Mutex::default(),
        }
    }

    /// Refuses a session of the console that was ended.
    ///
    /// # Errors
    /// When it was, or when that cannot be known.
    pub(crate) async fn check_console(&self, id: SessionId) -> Result<(), KeyError> {
        let has_ended = self.ask(|known| known.sessions.contains_key(&(None, id))).await?;
        refuse(has_ended)
    }

    /// Refuses a session of a portal that was ended.
    ///
    /// # Errors
    /// When it was, or when that cannot be known.
    pub(crate) async fn check_portal(&self, session: &PortalSession) -> Result<(), KeyError> {
        let has_ended = self.ask(|known| known.has_ended(session)).await?;
        refuse(has_ended)
    }

    async fn ask(&self, question: impl FnOnce(&Known) -> bool) -> Result<bool, KeyError> {
        ask(&self.known, |within| self.store.ended_sessions(within), question).await
    }
}

/// Asks what is known, after reading what was ended lately. One request reads for all that wait, and they fail together.
async fn ask<F>(
    known: &Mutex<Known>,
    read: impl FnOnce(Option<Duration>) -> F,
    question: impl FnOnce(&Known) -> bool,
) -> Result<bool, KeyError>
where
    F: Future<Output = Result<Vec<EndedRow>, sqlx::Error>>,
{
    let waits_since = Instant::now();
    let mut known = known.lock().await;
    if known.read_at.is_none_or(|read_at| read_at.elapsed() > FRESH) {
        if let Some(failure) = &known.failure {
            failure.share(waits_since)?;
        }
        let asked_at = Moment::now();
        let within = known.read_at.map(|read_at| read_at.elapsed() + LATE_COMMIT);
        match read(within).await.map_err(KeyError::from) {
            Ok(rows) => known.take(rows, UnixMicros::now()),
            Err(error) => {
                known.failure = Failure::of(&error);
                return Err(error);
            }
        }
        known.read_at = Some(asked_at);
    }
    Ok(question(&known))
}

impl Known {
    fn has_ended(&self, session: &PortalSession) -> bool {
        let mark = TenantMark::new(session.org_id, &session.tenant);
        let all = [self.tenants.get(&mark), self.organizations.get(&session.org_id)];
        all.iter().flatten().any(|ended| session.made_at <= ended.at)
            || self.sessions.contains_key(&(Some(session.org_id), session.id))
    }

    /// Takes in what was read, and forgets what no longer matters.
    fn take(&mut self, rows: Vec<EndedRow>, now: UnixMicros) {
        if !rows.is_empty() {
            self.sessions.retain(|_, until| *until > now);
            self.tenants.retain(|_, ended| ended.keep_until > now);
            self.organizations.retain(|_, ended| ended.keep_until > now);
        }
        for row in rows {
            let keep_until = row.keep_until.into();
            let ended = Ended {
                at: row.ended_at.into(),
                keep_until,
            };
            match (row.session_id, row.tenant_mark, row.org_id) {
                (Some(id), _, org_id) => _ = self.sessions.insert((org_id, id), keep_until),
                (None, Some(mark), _) => _ = self.tenants.insert(mark, ended),
                (None, None, Some(org_id)) => _ = self.organizations.insert(org_id, ended),
                (None, None, None) => tracing::error!("an ended session that names nobody"),
            }
        }
    }
}

fn refuse(has_ended: bool) -> Result<(), KeyError> {
    if has_ended { Err(KeyError::Invalid) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use time::OffsetDateTime;

    use super::*;
    use crate::domain::access::session::tests::session;

    fn row(session: &PortalSession, one: bool, ended_at: OffsetDateTime) -> EndedRow {
        EndedRow {
            org_id: Some(session.org_id),
            tenant_mark: Some(TenantMark::new(session.org_id, &session.tenant)),
            session_id: one.then_some(session.id),
            ended_at,
            keep_until: ended_at + Duration::from_secs(60),
        }
    }

    #[test]
    fn an_end_holds_for_one_session_or_for_a_tenants_of_before() {
        let (one, other) = (session(&[], &[]), session(&[], &[]));
        let now = UnixMicros::now();
        let mut known = Known::default();
        known.take(vec![row(&one, true, now.to_date_time())], now);
        assert!(known.has_ended(&one) && !known.has_ended(&other));
        let later = PortalSession {
            made_at: UnixMicros::new(now.get() + 1),
            ..other.clone()
        };
        let same_id = PortalSession {
            id: one.id,
            ..other.clone()
        };
        assert!(
            !known.has_ended(&same_id),
            "an id ends only its own organisation's session"
        );
        known.take(vec![row(&other, false, now.to_date_time())], now);
        assert!(known.has_ended(&other) && !known.has_ended(&later));
        let of_organization = EndedRow {
            tenant_mark: None,
            ..row(&later, false, later.made_at.to_date_time())
        };
        known.take(vec![of_organization], now);
        assert!(known.has_ended(&later));
        let past = UnixMicros::new(now.get() + 61_000_000);
        known.take(vec![row(&session(&[], &[]), true, past.to_date_time())], past);
        assert_eq!(
            (
                known.sessions.len(),
                known.tenants.len(),
                known.organizations.len()
            ),
            (1, 0, 0),
            "old ends are forgotten"
        );
    }

    #[tokio::test]
    async fn requests_that_wait_for_a_reading_fail_with_it_and_a_later_one_reads_again() {
        let (known, readings) = (Mutex::default(), Cell::new(0));
        let fail = |_| {
            readings.set(readings.get() + 1);
            async {
                tokio::task::yield_now().await;
                Err(sqlx::Error::PoolTimedOut)
            }
        };
        let asking = || ask(&known, fail, |_| true);
        let (one, two, three) = tokio::join!(asking(), asking(), asking());
        for answer in [one, two, three] {
            assert!(matches!(answer, Err(KeyError::Unavailable { .. })), "{answer:?}");
        }
        assert_eq!(readings.get(), 1);
        assert!(asking().await.is_err());
        assert_eq!(readings.get(), 2);
    }
}
