//! `delivery-worker explain`: the story of one event in words.

use anyhow::Context as _;
use shared::db::explain;
use shared::process::output::print;
use sqlx::PgPool;

use crate::config::ExplainOptions;

/// Prints the story.
///
/// # Errors
/// When Postgres does not answer, and when no such event is stored.
pub(crate) async fn run(options: &ExplainOptions, pool: &PgPool) -> anyhow::Result<()> {
    let facts = explain::find(pool, options.event_id).await;
    let facts = facts.context("cannot read the event")?.context(
        "no such event is stored: it may still be in its stream or in quarantine (see `audit`), be older than \
         RETENTION, or never have been accepted",
    )?;
    let explanation = facts.explain().context("an endpoint's filter cannot be read")?;
    if options.json {
        return print(&(serde_json::to_string_pretty(&explanation)? + "\n")).await;
    }
    print(&explanation.to_string()).await
}
