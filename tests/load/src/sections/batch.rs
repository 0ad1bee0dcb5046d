//! Requests with a hundred events, beside requests with one.

use crate::bench::{Bench, Load, Subject};
use crate::client::drive::Target;
use crate::client::request::Request;
use crate::site::{Site, SiteOptions};

const NAME: &str = "batch";

/// Events in a request.
const EVENTS: u64 = 100;

/// Connections that send batches.
const CONNECTIONS: usize = 16;

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let site = Site::start(&SiteOptions::INGEST).await?;
    let subject = |name, request: Request, connections| Subject {
        name,
        target: Target {
            addresses: site.addresses(),
            requests: vec![request],
            keys: None,
            connections,
        },
        watched: site.watched(),
        site: Some(&site),
    };
    let subjects = [
        subject("batches of 100", site.batch(EVENTS), CONNECTIONS),
        subject("single events", site.event("load.sent"), 64),
    ];
    let measured = bench
        .compare(NAME, "16 and 64 connections", Load::Closed, &subjects)
        .await?;
    let [batch, single] = &measured[..] else {
        anyhow::bail!("two subjects give two results");
    };
    let ratio = batch.per_second() / single.per_second();
    bench.report.at_least(
        NAME,
        "events/s in batches of 100, over single events",
        ratio,
        3.0,
        "×",
    );
    drop(subjects);
    site.stop().await
}
