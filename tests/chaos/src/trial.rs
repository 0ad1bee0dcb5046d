//! One run: a Penstock, a flow of events into it, and the receiver of its webhooks.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use e2e::{Answered, Flow, Manners, Organization, Outcome, Setup, Sink, Verdict, World};
use serde_json::{Value, json};

use crate::report::{Report, summary};
use crate::stage::Stage;

/// How long workers may come no further after the last event, before everything that was accepted is delivered.
pub(crate) const SETTLE: Duration = Duration::from_secs(120);

/// How many fates are told of lost events, of those that came twice, and of those that came out of order.
const FATES: usize = 10;

/// Deliveries to the endpoint that one worker sends at once.
const IN_FLIGHT: usize = 64;

/// The most of them that come again when it dies: as many again may be answered and not recorded.
pub(crate) const REPEATED: usize = 2 * IN_FLIGHT;

/// A [`World`] with one organisation, and one endpoint at a [`Sink`].
#[derive(Debug)]
pub struct Trial {
    pub(crate) world: World,
    pub(crate) organization: Organization,
    /// The receiver.
    pub sink: Sink,
    /// Some of the events have ordering keys.
    has_keys: bool,
    started: Instant,
}

/// How long an attempt may take. A worker that dies holds its deliveries back for a little longer.
const TIMEOUT_MS: u32 = 5_000;

/// The endpoint that a trial's events go to.
fn endpoint(timeout_ms: u32) -> Value {
    json!({"max_in_flight": IN_FLIGHT, "timeout_ms": timeout_ms, "ordered": true})
}

impl Trial {
    /// Starts everything.
    pub async fn start(setup: Setup, manners: Manners) -> Self {
        Self::start_with(setup, manners, TIMEOUT_MS).await
    }

    /// The same where an attempt may take so long.
    pub(crate) async fn start_with(setup: Setup, manners: Manners, timeout_ms: u32) -> Self {
        let sink = Sink::start(manners).await;
        Self::assemble_with(setup.start().await, sink, None, timeout_ms).await
    }

    /// In a world that runs. `via` is the address that workers reach the sink at, if it is not the sink's own.
    pub(crate) async fn assemble(world: World, sink: Sink, via: Option<SocketAddr>) -> Self {
        Self::assemble_with(world, sink, via, TIMEOUT_MS).await
    }

    async fn assemble_with(world: World, sink: Sink, via: Option<SocketAddr>, timeout_ms: u32) -> Self {
        let organization = world.organization().await;
        world.sink(&organization, &sink, via, endpoint(timeout_ms)).await;
        Self {
            world,
            organization,
            sink,
            has_keys: false,
            started: Instant::now(),
        }
    }

    /// The same with ordering keys on some of the events, whose order is judged too.
    #[must_use]
    pub fn with_keys(self) -> Self {
        Self {
            has_keys: true,
            ..self
        }
    }

    /// How many `ingest-api`s there are.
    pub(crate) fn replicas(&self) -> usize {
        let services = self.world.stack().services();
        services
            .filter(|service| service.name().starts_with("ingest-api"))
            .count()
    }

    /// Starts the load on all `ingest-api`s and waits until each has accepted something: they have verified the
    /// key.
    pub async fn flow(&self, stage: &Stage) -> Flow {
        self.flow_of(stage.rate()).await
    }

    /// The same with so many events a second.
    pub(crate) async fn flow_of(&self, rate: u32) -> Flow {
        let replicas = self.replicas();
        let producers = (0..replicas).map(|index| self.world.producer_at(&self.organization, index));
        let start = if self.has_keys {
            Flow::start_with_keys
        } else {
            Flow::start
        };
        let flow = start(producers.collect(), rate);
        flow.is_accepted_by(replicas).await;
        flow
    }

    /// Ends the run: waits until everything is delivered, has it judged, and stops all processes.
    ///
    /// # Panics
    /// When something is stuck, or one of the things that [`World::finish`] checks does not hold.
    pub async fn end(self, answers: &[Answered]) -> Report {
        self.world.settle_with(SETTLE).await;
        let mut report = self.judge(answers).await;
        report.nothing_lost();
        self.world.finish().await;
        report
    }

    /// The same where something is lost on purpose: what is not delivered is not waited for.
    pub async fn judge(&self, answers: &[Answered]) -> Report {
        let took = self.started.elapsed();
        let history = self
            .world
            .digested_history(&self.organization, answers, &self.sink)
            .await;
        let mut report = Report::new(took, history.judge());
        let Verdict {
            lost,
            duplicated,
            misordered,
            ..
        } = &report.verdict;
        let told = [lost, duplicated, misordered]
            .into_iter()
            .flat_map(|ids| ids.iter().take(FATES));
        report.fates = told.map(|id| format!("{id}: {}", self.world.fate(*id))).collect();
        report.note(summary(answers));
        if self.has_keys {
            report.note(format!("{} with ordering keys", history.ordered.len()));
        }
        let complaints = self.sink.complaints();
        if let Some(complaint) = complaints.first() {
            let count = complaints.len();
            report.broken.push(format!("{count} bad webhooks: {complaint}"));
        }
        report
    }
}

impl Deref for Trial {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Trial {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

/// For each moment and each producer, how long it took from then until an event that was sent later was accepted.
pub(crate) fn times_to_accept(answers: &[Answered], moments: &[Instant], producers: usize) -> Vec<Duration> {
    let time = |&moment: &Instant, producer: usize| {
        let later = answers
            .iter()
            .filter(|answer| answer.producer == producer && answer.is_accepted() && answer.sent > moment);
        let accepted = later.map(|answer| answer.sent + answer.took).min();
        accepted.map_or(Duration::MAX, |accepted| accepted - moment)
    };
    let pairs = moments
        .iter()
        .flat_map(|moment| (0..producers).map(move |producer| (moment, producer)));
    pairs.map(|(moment, producer)| time(moment, producer)).collect()
}

/// Requests that were answered with neither 202 nor 503.
pub(crate) fn failures(answers: &[Answered]) -> Vec<&Answered> {
    let is_failure = |answer: &&Answered| match &answer.outcome {
        Outcome::Accepted(_) => false,
        Outcome::Refused { status, .. } => *status != 503,
        Outcome::Unanswered(_) => true,
    };
    answers.iter().filter(is_failure).collect()
}

/// Answers other than 202 that do not say when to try again.
pub(crate) fn without_retry_after(answers: &[Answered]) -> usize {
    let silent = |answer: &&Answered| {
        matches!(
            answer.outcome,
            Outcome::Refused {
                retry_after: false,
                ..
            }
        )
    };
    answers.iter().filter(silent).count()
}

/// How long the answers took to requests that were sent in a span of time.
pub(crate) fn times(answers: &[Answered], from: Instant, until: Instant) -> Vec<Duration> {
    let between = answers
        .iter()
        .filter(|answer| answer.sent >= from && answer.sent < until);
    between.map(|answer| answer.took).collect()
}
