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

use std::slice;
use std::sync::Arc;

use shared::db::limited::LimitedPool;
use shared::domain::id::OrgId;
use shared::process::shutdown::Tasks;
use tokio::sync::oneshot;

use self::queues::{Queues, Turns, Waiting};
use super::json::to_json;
use super::row::{Creation, EndpointRow, Made, insert};
use crate::store::error::may_be_of_one_row;
use crate::store::{Result, Store, Stored};

/// Whose creations go together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Maker {
    org_id: OrgId,
    /// As the audit log names who asks.
    actor: String,
    address: String,
}

/// What became of a creation. None when the organisation does not exist or is being deleted. Several may have the same error.
type Answer = std::result::Result<Option<Made>, Arc<sqlx::Error>>;

/// Where creations wait.
#[derive(Clone, Debug)]
pub(in crate::store) struct Creations {
    queues: Queues,
    tasks: Tasks,
}

impl Creations {
    /// Statements are made by `tasks`, which must outlive the requests.
    pub(in crate::store) fn new(tasks: Tasks) -> Self {
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
            row: to_json(&new, Some(secret))?,
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
    let by = (maker.actor.as_str(), maker.address.as_str());
    let mut made = insert(pool, maker.org_id, by, creations).await?.into_iter();
    Ok(creations.iter().map(|_| made.next()).collect())
}
