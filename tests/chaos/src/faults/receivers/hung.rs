//! Receivers whose connections hang.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Event, Http2Peer, Manners, RawReceiver};
use serde_json::json;

use crate::faults::receivers::{ENDED, certificate, until_ended};
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// How late a delivery may be: until the connection is known to hang.
const LEFT: Duration = Duration::from_secs(7);

/// The first connections of each worker answer one request and hang; new ones are answered.
pub(crate) async fn hung(stage: &Stage) -> Tried {
    const WORKERS: usize = 2;
    let (_folder, tls) = certificate()?;
    let setup = stage.setup().worker_env("SSL_CERT_FILE", tls.file());
    let trial = Trial::start(setup, Manners::default()).await;
    let organization = trial.world.organization().await;
    let seen = Arc::new(AtomicUsize::new(0));
    let receiver = RawReceiver::start("127.0.0.1:0", {
        let seen = seen.clone();
        move |stream| {
            let (tls, before) = (tls.clone(), seen.fetch_add(1, Ordering::Relaxed));
            async move {
                if let Ok(peer) = tls.http2(stream).await {
                    talk(peer, before < WORKERS).await;
                }
            }
        }
    })
    .await;
    let url = receiver.url().replace("http:", "https:");
    let fields = json!({"timeout_ms": 20_000, "retry": {"attempts": 1}});
    trial.world.endpoint_at(&organization, &url, fields).await;
    let flow = trial.flow(stage).await;
    let producer = trial.world.producer(&organization);
    let events = stage.pick(60, 20);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / stage.pick(1, 4));
    for _ in 0..events {
        tick.tick().await;
        producer.send(&Event::new("a", "1")).await;
    }
    until_ended(&trial, &organization, events, stage.bound(ENDED)).await;
    let answers = flow.stop().await;
    let query = "select count(*) filter (where a.outcome <> 'delivered'),
                     max(extract(epoch from a.started_at - e.accepted_at)::float8 + a.duration_ms / 1000.0::float8),
                     count(*) filter (where a.duration_ms > 1000)
                 from attempt_history a join events e on e.id = a.event_id where e.org_id = $1";
    let (failed, latest, late): (i64, f64, i64) = sqlx::query_as(query)
        .bind(organization.id)
        .fetch_one(trial.database())
        .await?;
    let mut report = trial.end(&answers).await;
    report.at_most("failed", failed, 0);
    report.at_most("latest (s)", latest, stage.bound(LEFT).as_secs_f64());
    report.note(format!(
        "{late} of {events} took more than a second, {} connections",
        receiver.connections()
    ));
    Ok(Outcome::Ran(report))
}

async fn talk(mut peer: Http2Peer, hangs: bool) {
    if !hangs {
        return peer.answer_all().await;
    }
    if let Ok(stream) = peer.request().await {
        let _ = peer.answer(stream).await;
    }
    let _ = peer.request().await;
    std::future::pending::<()>().await;
}
