//! The audit log: triggers write it, and here it is told who changes something.

use shared::db::limited::{LimitedPool, Transaction};
use shared::domain::id::OrgId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::actor::Actor;
use crate::domain::audit::{AuditAction, AuditKind};
use crate::domain::page::Page;

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
    pub(super) fn actor(&self) -> (String, String) {
        let actor = self.actor.as_ref();
        let actor = actor.map(|actor| (actor.name(), actor.address()));
        actor.unwrap_or_default()
    }

    /// Begins a transaction that changes something.
    pub(super) async fn begin_change(&self, pool: &LimitedPool) -> Result<Transaction> {
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

    /// A page of entries, newest first, with one more when there are more.
    pub(crate) async fn list_audit_log(
        &self,
        filter: &AuditFilter,
        page: &Page<Uuid>,
    ) -> Result<Vec<AuditRow>> {
        // Two branches, each with an index of its own.
        let rows = sqlx::query_as!(
            AuditRow,
            r#"select id as "id!", at as "at!", org_id as "org_id!: OrgId", tenant, actor as "actor!", address,
                      kind as "kind!: AuditKind", subject as "subject!", action as "action!: AuditAction",
                      before::text, after::text
               from (
                   (select * from audit_log
                    where $1::uuid is null and (at, id) < ($2::timestamptz, $3::uuid)
                      and ($4::text is null or kind = $4) and ($5::text is null or subject = $5)
                      and ($6::text is null or actor = $6)
                    order by at desc, id desc limit $7)
                   union all
                   (select * from audit_log
                    where org_id = $1 and (at, id) < ($2::timestamptz, $3::uuid)
                      and ($4::text is null or kind = $4) and ($5::text is null or subject = $5)
                      and ($6::text is null or actor = $6)
                    order by at desc, id desc limit $7)
               ) found
               order by at desc, id desc"#,
            filter.org_id.map(OrgId::as_uuid),
            page.before().at,
            page.before().id,
            filter.kind as _,
            filter.subject,
            filter.actor,
            page.limit + 1,
        );
        rows.fetch_all(&self.pool).await
    }
}
