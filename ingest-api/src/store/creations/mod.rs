//! Making endpoints, in groups.
//!
//! A statement that makes endpoints holds its organisation's row and that of the version until they are on disk, however many it
//! makes. So while one is under way, the creations that come gather, and the next one makes all of them. One that comes alone
//! waits for nothing. A group has one maker: the audit log names one for a transaction.
//!
//! The statements of a maker are made by a task of their own. It goes on when a request goes away, and ends when none waits.
//!
//! Each creation has an answer of its own. When one row may be why a statement failed, each creation of it is made by itself.

mod queues;
mod row;

use std::slice;
use std::sync::Arc;

use shared::db::limited::LimitedPool;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::process::shutdown::Tasks;
use time::OffsetDateTime;
use tokio::sync::oneshot;

use self::queues::{Queues, Turns, Waiting};
use super::endpoints::EndpointRow;
use super::error::may_be_of_one_row;
use super::owners::{Admission, MAX_ENDPOINTS, MAX_ENDPOINTS_IN_ALL, MAX_TENANTS};
use super::{Result, Store, Stored};

/// Whose creations go together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Maker {
    org_id: OrgId,
    /// As the audit log names who asks.
    actor: String,
    address: String,
}

/// An endpoint that is to be made.
#[derive(Debug)]
struct Creation {
    /// Its row, as JSON.
    row: String,
    tenant: Option<Tenant>,
    may_make_tenant: bool,
}

/// What became of a creation. None when the organisation does not exist or is being deleted. Several may have the same error.
type Answer = std::result::Result<Option<Made>, Arc<sqlx::Error>>;

/// Whether an endpoint was made, and what Postgres gave it.
#[derive(Debug)]
struct Made {
    admission: Admission,
    version: Option<i64>,
    created_at: OffsetDateTime,
}

/// Where creations wait.
#[derive(Clone, Debug)]
pub(super) struct Creations {
    queues: Queues,
    tasks: Tasks,
}

impl Creations {
    /// Statements are made by `tasks`, which must outlive the requests.
    pub(super) fn new(tasks: Tasks) -> Self {
        Self {
            queues: Queues::default(),
            tasks,
        }
    }
}

impl Store {
    /// Stores a new endpoint with its sealed signing secret, unless there are as many as there may be. A tenant that is missing
    /// is made if it may be. Returns the endpoint as it is stored.
    ///
    /// # Errors
    /// Those of Postgres, which others may have too.
    pub(crate) async fn create_endpoint(
        &self,
        org_id: OrgId,
        new: EndpointRow,
        secret: &[u8],
        may_make_tenant: bool,
    ) -> std::result::Result<Stored<EndpointRow>, Arc<sqlx::Error>> {
        let (actor, address) = self.actor();
        let maker = Maker {
            org_id,
            actor,
            address,
        };
        let creation = Creation {
            row: row::to_json(&new, secret)?,
            tenant: new.tenant.clone(),
            may_make_tenant,
        };
        let (answered, turns) = self.creations.queues.enter(maker, creation);
        if let Some(turns) = turns {
            let making = take_turns(self.pool.clone(), turns);
            self.creations.tasks.spawn("creations of endpoints", making);
        }
        // Nobody answers when the task has panicked.
        let answered = async { answered.await.map_err(|_| sqlx::Error::WorkerCrashed) };
        let Some(made) = self.pool.within(answered).await?? else {
            return Ok(Stored::Missing);
        };
        let stored = made.admission.into_stored(new.tenant.is_some(), || {
            Ok(EndpointRow {
                version: made.version.ok_or(sqlx::Error::RowNotFound)?,
                created_at: made.created_at,
                updated_at: made.created_at,
                ..new
            })
        });
        stored.map_err(Arc::new)
    }
}

/// Makes what waits, group by group, until nothing does.
async fn take_turns(pool: LimitedPool, mut turns: Turns) {
    while let Some(group) = turns.next_group() {
        make_group(&pool, turns.maker(), group).await;
    }
}

async fn make_group(pool: &LimitedPool, maker: &Maker, group: Vec<Waiting>) {
    let group = group
        .into_iter()
        .map(|waiting| (waiting.creation, waiting.answer));
    let (creations, answers): (Vec<_>, Vec<_>) = group.unzip();
    match make(pool, maker, &creations).await {
        Err(error) if creations.len() > 1 && may_be_of_one_row(&error) => {
            let endpoints = creations.len();
            tracing::warn!(%error, endpoints, "endpoints cannot be made together, making each by itself");
            for (creation, answer) in creations.iter().zip(answers) {
                let made = make(pool, maker, slice::from_ref(creation)).await;
                tell([answer], made);
            }
        }
        made => tell(answers, made),
    }
}

/// Answers the requests of a statement. Those that have gone do not hear it.
fn tell(answers: impl IntoIterator<Item = oneshot::Sender<Answer>>, made: Result<Vec<Option<Made>>>) {
    match made {
        Ok(made) => {
            for (answer, made) in answers.into_iter().zip(made) {
                let _ = answer.send(Ok(made));
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for answer in answers {
                let _ = answer.send(Err(error.clone()));
            }
        }
    }
}

/// Makes endpoints by one statement. Returns what became of each.
async fn make(pool: &LimitedPool, maker: &Maker, creations: &[Creation]) -> Result<Vec<Option<Made>>> {
    // What is made is written down in the audit log at the end of the statement, by the one that `act_as` names.
    let made = sqlx::query_as!(
        Made,
        r#"with admitted as materialized (
               select place, admission, is_new_tenant, gets_events
               from admit_endpoints($1, $2, $3, $5, $6, $7)
           ),
           counted as materialized (
               select next_endpoint_version() as version
               where exists (select from admitted where admission = 'admitted') and act_as($8, $9)
           ),
           new_tenants as (
               insert into tenants (org_id, uid)
               select $1, ($2::text[])[a.place]
               from admitted a cross join counted
               where a.admission = 'admitted' and a.is_new_tenant
           ),
           new_endpoints as (
               insert into endpoints (id, org_id, kind, secret, url, description, event_types, filter, headers, format,
                                      retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                                      timeout_ms, max_in_flight, rate_limit_per_second, ordered, on_exhausted, status,
                                      disabled_reason, tenant, all_tenants, tenant_enabled, max_leased, method,
                                      signatures, auth, certificate_expires_at, template, template_content_type, version)
               select e.id, $1, e.kind, e.secret, e.url, e.description, e.event_types, e.filter, e.headers, e.format,
                      e.retry_attempts, e.retry_initial_ms, e.retry_factor, e.retry_max_ms, e.retry_max_age_ms,
                      e.timeout_ms, e.max_in_flight, e.rate_limit_per_second, e.ordered, e.on_exhausted, e.status,
                      e.disabled_reason, e.tenant, e.all_tenants, a.gets_events, e.max_leased, e.method,
                      e.signatures, e.auth, e.certificate_expires_at, e.template, e.template_content_type, c.version
               from admitted a cross join counted c
               cross join lateral json_populate_record(null::endpoints, ($4::text[])[a.place]::json) as e
               where a.admission = 'admitted'
           )
           select a.admission as "admission!: Admission", c.version as "version?",
                  -- The default of both times of a new endpoint.
                  now() as "created_at!"
           from admitted a left join counted c on true
           order by a.place"#,
        maker.org_id.as_uuid(),
        &creations.iter().map(|creation| creation.tenant.as_ref().map(Tenant::as_str)).collect::<Vec<_>>() as _,
        &creations.iter().map(|creation| creation.may_make_tenant).collect::<Vec<_>>(),
        &creations.iter().map(|creation| &*creation.row).collect::<Vec<_>>() as _,
        MAX_ENDPOINTS.count,
        MAX_ENDPOINTS_IN_ALL.count,
        MAX_TENANTS.count,
        maker.actor,
        maker.address,
    )
    .fetch_all(pool)
    .await?;
    let mut made = made.into_iter();
    Ok(creations.iter().map(|_| made.next()).collect())
}
