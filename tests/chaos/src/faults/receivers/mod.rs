//! Receivers that flood the worker, and receivers whose connections hang.

mod floods;
mod flooding;
mod hung;

use std::path::PathBuf;
use std::time::Duration;

use e2e::{Organization, Tls, until_within};

pub(crate) use self::flooding::flooding;
pub(crate) use self::hung::hung;
use crate::trial::Trial;

/// Until all of them have ended.
const ENDED: Duration = Duration::from_secs(60);

/// A file for a certificate, which goes with its folder.
fn certificate() -> anyhow::Result<(tempfile::TempDir, Tls)> {
    let folder = tempfile::Builder::new().prefix("penstock-tls-").tempdir()?;
    let tls = Tls::new(PathBuf::from(folder.path()), "receiver");
    Ok((folder, tls))
}

async fn until_ended(trial: &Trial, organization: &Organization, bound: Duration) {
    until_within(bound, "the deliveries to end", async || {
        let query = "select count(*) from events e left join deliveries d on d.event_id = e.id
                     where e.org_id = $1 and (d.status is null or d.status = 'pending')";
        let query = sqlx::query_scalar(query).bind(organization.id);
        let left: i64 = query
            .fetch_one(trial.database())
            .await
            .map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
}
