//! What an event costs from its acceptance to its webhooks, at a rate at which they keep up: processor time of each process,
//! WAL and rows, of this build and of another one in alternation.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::bench::{Bench, Measured, median};
use crate::client::drive::{self, Driven, Target};
use crate::client::ledger::Ledger;
use crate::sink::Sink;
use crate::site::{Site, SiteOptions};
use crate::usage::Snapshot;

const NAME: &str = "cost";

const DRAIN: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// An endpoint must be able to take what is sent; a failure is tried again soon.
fn endpoint() -> serde_json::Value {
    json!({"max_in_flight": 256, "retry": {"initial_seconds": 0.2, "factor": 1.0}})
}

/// What events go through.
struct Case {
    name: &'static str,
    event_type: &'static str,
    endpoints: usize,
    /// Events a second.
    rate: f64,
    /// Of ten events, how many fail at first.
    failing: u64,
}

const CASES: [Case; 4] = [
    Case {
        name: "one endpoint",
        event_type: "load.one",
        endpoints: 1,
        rate: 2_500.0,
        failing: 0,
    },
    Case {
        name: "three endpoints",
        event_type: "load.three",
        endpoints: 3,
        rate: 600.0,
        failing: 0,
    },
    Case {
        name: "ten endpoints",
        event_type: "load.ten",
        endpoints: 10,
        rate: 200.0,
        failing: 0,
    },
    Case {
        name: "30 % fail at first",
        event_type: "load.failing",
        endpoints: 1,
        rate: 800.0,
        failing: 3,
    },
];

/// A build, and where it delivers to.
struct Subject {
    name: &'static str,
    site: Site,
    sinks: Vec<Vec<Sink>>,
    sent: u64,
}

/// What a subject did with the events of one round.
struct Round {
    driven: Driven,
    cpu: Vec<(&'static str, Duration)>,
    wal_bytes: f64,
    row_bytes: f64,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut subjects = vec![Subject::start("penstock", &SiteOptions::WHOLE).await?];
    if let Some(program) = bench.against.clone() {
        let options = SiteOptions {
            program: Some(program),
            ..SiteOptions::WHOLE
        };
        subjects.push(Subject::start("before", &options).await?);
    }
    for (number, case) in CASES.iter().enumerate() {
        compare(bench, &mut subjects, number, case).await?;
    }
    for subject in subjects {
        subject.site.stop().await?;
    }
    Ok(())
}

async fn compare(
    bench: &mut Bench,
    subjects: &mut [Subject],
    number: usize,
    case: &Case,
) -> anyhow::Result<()> {
    let mut rounds: Vec<Vec<Round>> = subjects.iter().map(|_| Vec::new()).collect();
    let length = bench.effort.slice;
    for round in 1..=bench.effort.rounds {
        for (subject, rounds) in subjects.iter_mut().zip(&mut rounds) {
            bench.step(format!("{}, {}, round {round}", case.name, subject.name));
            // The first one fills caches.
            if round == 1 {
                subject.round(number, case, length.mul_f64(0.3)).await?;
            }
            rounds.push(subject.round(number, case, length).await?);
        }
    }
    for (subject, rounds) in subjects.iter().zip(rounds) {
        let mut measured = Measured::new(subject.name);
        let figure = |of: fn(&Round) -> f64| median(rounds.iter().map(of));
        let (wal, rows) = (figure(|round| round.wal_bytes), figure(|round| round.row_bytes));
        for (what, bytes) in [("WAL", wal), ("tables and indexes", rows)] {
            let name = format!("{what} an event, {}, {}", case.name, subject.name);
            bench.report.figure(NAME, name, bytes, "B");
        }
        for round in rounds {
            measured.add(round.driven, round.cpu);
        }
        bench.report.rows.push(measured.row(NAME, case.name));
    }
    Ok(())
}

impl Subject {
    async fn start(name: &'static str, options: &SiteOptions) -> anyhow::Result<Self> {
        let site = Site::start(options).await?;
        let mut sinks = Vec::new();
        for case in &CASES {
            let mut of_case = Vec::new();
            for _ in 0..case.endpoints {
                let sink = Sink::start().await?;
                sink.fail_first(case.failing);
                site.endpoint(&sink, case.event_type, endpoint()).await?;
                of_case.push(sink);
            }
            sinks.push(of_case);
        }
        Ok(Self {
            name,
            site,
            sinks,
            sent: 0,
        })
    }

    /// Sends events for a time and waits until all webhooks have arrived and are recorded.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "counts of events and bytes are far below 2^52"
    )]
    async fn round(&mut self, number: usize, case: &Case, length: Duration) -> anyhow::Result<Round> {
        let events = (case.rate * length.as_secs_f64()) as u64 + 1;
        let sinks = &self.sinks[number];
        let ledgers: Vec<_> = sinks
            .iter()
            .map(|sink| {
                let ledger = Arc::new(Ledger::new(self.sent, events as usize));
                sink.record_in(&ledger);
                ledger
            })
            .collect();
        self.sent += events;
        let target = Target {
            addresses: self.site.addresses(),
            requests: vec![self.site.event(case.event_type)],
            keys: None,
            connections: 128,
        };
        let watched = self.site.watched();
        let (wal, rows) = self.bytes().await?;
        let (before, started) = (Snapshot::take(&watched), Instant::now());
        let mut driven = drive::open_loop(&target, case.rate, length, ledgers.first().cloned()).await?;
        ensure!(
            driven.failed == 0,
            "{} requests were not answered 202",
            driven.failed
        );
        let is_done = || ledgers.iter().all(|ledger| ledger.counts().1 >= driven.events);
        while !is_done() || self.is_pending().await? {
            ensure!(started.elapsed() < DRAIN, "webhooks are missing after {DRAIN:?}");
            tokio::time::sleep(LOOK).await;
        }
        driven.elapsed = started.elapsed();
        let cpu = before.since(&watched);
        let (wal_after, rows_after) = self.bytes().await?;
        let each = |bytes: i64| bytes as f64 / driven.events as f64;
        Ok(Round {
            wal_bytes: each(wal_after - wal),
            row_bytes: each(rows_after - rows),
            driven,
            cpu,
        })
    }

    /// Whether a delivery is not recorded as finished. It must cost little: an index has those that are not.
    async fn is_pending(&self) -> anyhow::Result<bool> {
        let pending = "select exists (select from deliveries
                                      where status = 'pending' and not pull and ordering_key is null)";
        Ok(sqlx::query_scalar(pending).fetch_one(&self.site.database).await?)
    }

    /// The WAL that was written so far, and the size of the tables of events with their indexes.
    async fn bytes(&self) -> anyhow::Result<(i64, i64)> {
        let bytes = "select (pg_current_wal_insert_lsn() - '0/0')::bigint,
                            (select sum(pg_total_relation_size(oid))::bigint from pg_class
                             where relkind = 'r' and relname ~ '^(events|deliveries|attempts)_')";
        Ok(sqlx::query_as(bytes).fetch_one(&self.site.database).await?)
    }
}
