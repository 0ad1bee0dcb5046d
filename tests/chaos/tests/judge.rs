//! The judge of the fault tests finds what was done behind the back of a run that it had called good.

use std::collections::BTreeSet;

use chaos::{Stage, Trial};
use e2e::{Manners, Outcome, until};
use shared::domain::id::EventId;

async fn execute(trial: &Trial, statement: &'static str, id: EventId) {
    let query = sqlx::query(statement).bind(id);
    let done = query.execute(trial.database()).await.expect("Postgres runs");
    assert_eq!(done.rows_affected(), 1, "{statement}");
}

#[tokio::test]
async fn a_removed_row_a_changed_byte_and_a_repeated_webhook_are_found() {
    let stage = Stage::quick(env!("CARGO_BIN_EXE_chaos"));
    let trial = Trial::start(stage.patient_setup(), Manners::default()).await;
    let flow = trial.flow(&stage).await;
    until("some webhooks", async || match trial.sink.count() {
        20.. => Ok(()),
        count => Err(format!("{count} webhooks")),
    })
    .await;
    let answers = flow.stop().await;
    trial.settle().await;
    let verdict = trial.judge(&answers).await.verdict;
    assert!(verdict.is_flawless(), "{verdict:?}");

    let mut ids = answers.iter().filter_map(|answer| match answer.outcome {
        Outcome::Accepted(id) => Some(id),
        _ => None,
    });
    let [removed, altered, repeated] = std::array::from_fn(|_| ids.next().expect("20 were accepted"));
    execute(&trial, "delete from events where id = $1", removed).await;
    let change = r"update events set data = data || '\x20'::bytea where id = $1";
    execute(&trial, change, altered).await;
    let again = "update deliveries set status = 'pending', next_attempt_at = now() where event_id = $1";
    execute(&trial, again, repeated).await;

    let report = trial.end(&answers).await;
    let only = |id| BTreeSet::from([id]);
    assert_eq!(report.verdict.lost, only(removed));
    assert_eq!(report.verdict.altered, only(altered));
    assert_eq!(report.verdict.duplicated, only(repeated));
    let [lost, changed] = report.broken.try_into().expect("two lines");
    assert_eq!(lost, format!("1 lost, such as {removed}"));
    assert_eq!(changed, format!("1 altered, such as {altered}"));
    let [fate, of_repeated] = report.fates.try_into().expect("two fates");
    assert!(
        of_repeated.starts_with(&format!("{repeated}: frame ")),
        "{of_repeated}"
    );
    // Its row was removed behind everybody's back; up to then all went well.
    assert!(fate.starts_with(&format!("{removed}: frame ")), "{fate}");
    // A worker may have the frame before its acknowledgement has reached ingest-api.
    for step in [
        " of EVENTS-0, ",
        ", stored by ingest-api",
        ", handed out to delivery-worker",
        ", acknowledged by delivery-worker",
    ] {
        assert!(fate.contains(step), "{fate}");
    }
}
