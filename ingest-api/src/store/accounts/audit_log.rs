//! The audit log: triggers write it, and here it is told who changes something.

use shared::db::limited::{LimitedPool, Transaction};
use shared::domain::id::OrgId;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::access::actor::Actor;
use crate::domain::accounts::audit::{AuditAction, AuditKind};
use crate::domain::cursor::Cursor;
use crate::domain::page::Page;
use crate::store::{Result, Store};

/// Which entries to list.
#[derive(Debug, Default)]
pub(crate) struct AuditFilter {
    /// Of this organisation.
    pub org_id: Option<OrgId>,
    /// About such things.
    pub kind: Option<AuditKind>,
    /// About the thing with this id.
    pub subject: Option<String>,
    /// Done by this one.
    pub actor: Option<String>,
}

/// An entry.
#[derive(Debug)]
pub(crate) struct AuditRow {
    pub id: Uuid,
    pub at: OffsetDateTime,
    pub org_id: OrgId,
    pub tenant: Option<String>,
    pub actor: String,
    pub address: Option<String>,
    pub kind: AuditKind,
    pub subject: String,
    pub action: AuditAction,
    /// Columns as JSON.
    pub before: Option<String>,
    /// Columns as JSON.
    pub after: Option<String>,
}

impl Store {
    /// The same database, for changes that this one asks for.
    pub(crate) fn by(&self, actor: Actor) -> Self {
        Self {
            actor: Some(actor),
            ..self.clone()
        }
    }

    /// The name and address of who asks, for the `act_as` of a change that is one statement. Empty when nobody does.
    pub(in crate::store) fn actor(&self) -> (String, String) {
        let actor = self.actor.as_ref();
        let actor = actor.map(|actor| (actor.name(), actor.address()));
        actor.unwrap_or_default()
    }

    /// Begins a transaction that changes something.
    pub(in crate::store) async fn begin_change(&self, pool: &LimitedPool) -> Result<Transaction> {
        let mut transaction = pool.begin().await?;
        if let Some(actor) = &self.actor {
            sqlx::query!(
                "select set_config('penstock.actor', $1, true) as actor, set_config('penstock.address', $2, true) as address",
                actor.name(),
                actor.address(),
            )
            .fetch_one(&mut *transaction)
            .await?;
        }
        Ok(transaction)
    }

    /// A page of entries, newest first, with one more when there are more. It looks at 10 000 entries of the subject, of the
    /// actor, of the organisation or of all. Where it ends before it has one more, this is the last that it looks at; None when
    /// these are all.
    pub(crate) async fn list_audit_log(
        &self,
        filter: &AuditFilter,
        page: &Page<Uuid>,
    ) -> Result<(Vec<AuditRow>, Option<Cursor>)> {
        let mut snapshot = self.snapshot().await?;
        let rows = sqlx::query_as!(
            AuditRow,
            r#"select id as "id!", at as "at!", org_id as "org_id!: OrgId", tenant, actor as "actor!", address,
                      kind as "kind!: AuditKind", subject as "subject!", action as "action!: AuditAction",
                      before::text, after::text
               from audit_entries($1, $5, $6, $2, $3)
               where ($1::uuid is null or org_id = $1) and ($4::text is null or kind = $4)
                 and ($6::text is null or actor = $6)
               order by at desc, id desc limit $7"#,
            filter.org_id.map(OrgId::as_uuid),
            page.before().at,
            page.before().id,
            filter.kind as _,
            filter.subject,
            filter.actor,
            page.limit + 1,
        );
        let rows = rows.fetch_all(&mut *snapshot).await?;
        if i64::try_from(rows.len()).unwrap_or(i64::MAX) > page.limit {
            return Ok((rows, None));
        }
        let end = end_of_audit_log(&mut snapshot, filter, page).await?;
        Ok((rows, end))
    }
}

/// The last entry that `list_audit_log` looks at. None when it looks at all of them.
async fn end_of_audit_log(
    snapshot: &mut Transaction,
    filter: &AuditFilter,
    page: &Page<Uuid>,
) -> Result<Option<Cursor>> {
    sqlx::query_as!(
        Cursor,
        r#"select at as "at!", id as "id!" from audit_entries($1, $2, $3, $4, $5)
           order by at desc, id desc offset 9999 limit 1"#,
        filter.org_id.map(OrgId::as_uuid),
        filter.subject,
        filter.actor,
        page.before().at,
        page.before().id,
    )
    .fetch_optional(&mut **snapshot)
    .await
}
