//! Starting deliveries: each is a task that holds its permit and its lease, makes one attempt, and hands the
//! result to the recorder.

use std::sync::Arc;
use std::time::Duration;

use shared::clock::UnixMicros;
use shared::id::LeaseToken;
use shared::shutdown::Tasks;

use crate::deliver::{Outgoing, Sender};
use crate::endpoint::{Endpoint, OnExhausted};
use crate::permits::Permit;
use crate::record::{Recorder, Report};
use crate::retry::{RetryPolicy, Verdict};

/// A leased delivery.
#[derive(Debug)]
pub struct Job {
    /// What is sent.
    pub event: Arc<Outgoing>,
    /// Where it is sent.
    pub endpoint: Arc<Endpoint>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Time since the delivery was stored.
    pub age: Duration,
    /// It has an ordering key: the next one of its key waits for it.
    pub ordered: bool,
    /// The lease under which the result will be recorded.
    pub lease: LeaseToken,
}

impl Job {
    /// The endpoint's retry policy; without an end where the key is to wait for this delivery whatever it takes.
    fn policy(&self) -> RetryPolicy {
        let policy = self.endpoint.retry;
        match self.endpoint.on_exhausted {
            OnExhausted::Block if self.ordered => policy.without_end(),
            _ => policy,
        }
    }
}

/// Starts deliveries.
#[derive(Clone, Debug)]
pub struct Dispatcher {
    sender: Arc<Sender>,
    recorder: Recorder,
    tasks: Tasks,
}

impl Dispatcher {
    /// Its deliveries run among `tasks`.
    pub fn new(sender: Sender, recorder: Recorder, tasks: Tasks) -> Self {
        Self {
            sender: Arc::new(sender),
            recorder,
            tasks,
        }
    }

    /// Whether results wait to be written, so that no delivery should be claimed whose result may be among them.
    pub fn is_behind(&self) -> bool {
        self.recorder.is_behind()
    }

    /// Starts a delivery. Should its task panic, the permit is freed and the lease runs out.
    pub fn start(&self, job: Job, permit: Permit) {
        let (sender, recorder) = (self.sender.clone(), self.recorder.clone());
        self.tasks.spawn("delivery", async move {
            let attempt = sender.attempt(&job.event, &job.endpoint).await;
            let verdict = attempt.verdict();
            metrics::counter!("attempts_total", "outcome" => attempt.outcome).increment(1);
            metrics::histogram!("attempt_duration_seconds").record(attempt.duration);
            if job.attempt == 1 && verdict == Verdict::Delivered {
                let micros = UnixMicros::now().get() - job.event.accepted_at.get();
                let latency = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
                metrics::histogram!("event_to_delivery_seconds").record(latency);
            }
            let age = job.age + attempt.duration;
            let next = job.policy().next(job.attempt, verdict, age, rand::random());
            recorder.record(Report {
                job,
                attempt,
                next,
                permit,
            });
        });
    }
}
