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

/// Waits until so many deliveries of an organisation have ended. Events that are not stored yet have none.
async fn until_ended(trial: &Trial, organization: &Organization, count: usize, bound: Duration) {
    until_within(bound, "the deliveries to end", async || {
        let query = "select count(*) from deliveries where org_id = $1 and status <> 'pending'";
        let query = sqlx::query_scalar(query).bind(organization.id);
        let ended: i64 = query
            .fetch_one(trial.database())
            .await
            .map_err(|error| error.to_string())?;
        if usize::try_from(ended) == Ok(count) {
            Ok(())
        } else {
            Err(format!("{ended} of {count}"))
        }
    })
    .await;
}
