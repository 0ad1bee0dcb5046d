//! Three nats-servers, every stream on all of them: the leader of the event stream is killed, hangs, or is cut off.

use std::time::{Duration, Instant};

use anyhow::Context;
use async_nats::ServerAddr;
use async_nats::jetstream;
use e2e::{Answered, Manners, NatsOptions, Setup, Signal, Stack, until};
use shared::wire::stream;

use super::nats::refusals_are_polite;
use crate::faults::Moments;
use crate::machine::network::Network;
use crate::machine::require_root;
use crate::report::{Outcome, Tried, p99};
use crate::stage::Stage;
use crate::trial::{Trial, times_to_accept};

const NODES: usize = 3;

/// How soon events must be accepted again when a leader is gone. The other servers elect a new one after 4 to 9 s of
/// silence; a service that was connected to the old one has to notice first.
const ACCEPTS_AGAIN: Duration = Duration::from_secs(14);

/// SIGKILL 10 times in 120 s; the server comes back a second later.
pub(crate) async fn kill_leader(stage: &Stage) -> Tried {
    let mut trial = Trial::start(setup(stage, NatsOptions::default()), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let mut moments = Moments::every(stage.pick(Duration::from_secs(12), Duration::from_secs(6)));
    let mut kills = Vec::new();
    for _ in 0..stage.pick(10, 2) {
        moments.next().await;
        let leader = leader(trial.stack()).await;
        kills.push(Instant::now());
        let node = trial.stack_mut().nats_node_mut(leader);
        node.kill().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        node.start().await?;
    }
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    end(stage, trial, &answers, &kills).await
}

/// SIGSTOP for 15 s.
pub(crate) async fn freeze_leader(stage: &Stage) -> Tried {
    let mut trial = Trial::start(setup(stage, NatsOptions::default()), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let leader = leader(trial.stack()).await;
    let frozen = Instant::now();
    trial.stack_mut().nats_node_mut(leader).signal(Signal::SIGSTOP)?;
    tokio::time::sleep(stage.pick(Duration::from_secs(15), Duration::from_secs(8))).await;
    trial.stack_mut().nats_node_mut(leader).signal(Signal::SIGCONT)?;
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    end(stage, trial, &answers, &[frozen]).await
}

/// Its network is down for 15 s, for the other servers and for the services.
pub(crate) async fn cut_off_leader(stage: &Stage) -> Tried {
    let network = match require_root() {
        Ok(()) => Network::make(NODES).await.map_err(|error| format!("{error:#}")),
        Err(reason) => Err(reason),
    };
    let network = match network {
        Ok(network) => network,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let nats = NatsOptions {
        namespaces: network.namespaces(),
        ..NatsOptions::default()
    };
    let trial = Trial::start(setup(stage, nats), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let leader = leader(trial.stack()).await;
    network.set(leader, "down").await?;
    // Up to now the leader may have accepted something.
    let cut = Instant::now();
    tokio::time::sleep(stage.pick(Duration::from_secs(15), Duration::from_secs(8))).await;
    network.set(leader, "up").await?;
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    end(stage, trial, &answers, &[cut]).await
}

fn setup(stage: &Stage, nats: NatsOptions) -> Setup {
    let nats = NatsOptions { nodes: NODES, ..nats };
    let setup = stage.setup().nats(nats);
    setup.ingest_env("EVENT_STREAM_REPLICAS", "3")
}

async fn end(stage: &Stage, trial: Trial, answers: &[Answered], moments: &[Instant]) -> Tried {
    let again = times_to_accept(answers, moments, trial.replicas());
    let mut report = trial.end(answers).await;
    report.at_most("p99 until accepted again", p99(again), stage.bound(ACCEPTS_AGAIN));
    refusals_are_polite(&mut report, answers);
    Ok(Outcome::Ran(report))
}

/// The number of the server that leads the event stream, as soon as there is one.
async fn leader(stack: &Stack) -> usize {
    until("the event stream to have a leader", async || {
        find_leader(&stack.nats_urls())
            .await
            .map_err(|error| format!("{error:#}"))
    })
    .await
}

async fn find_leader(urls: &str) -> anyhow::Result<usize> {
    let servers: Vec<ServerAddr> = urls.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let client = async_nats::connect(servers).await?;
    let stream = jetstream::new(client).get_stream(stream::name(0)).await?;
    let cluster = stream.cached_info().cluster.clone();
    let leader = cluster
        .and_then(|cluster| cluster.leader)
        .context("it has no leader")?;
    let number = leader
        .strip_prefix("node-")
        .and_then(|number| number.parse().ok());
    number.with_context(|| format!("{leader} leads, which is none of ours"))
}
