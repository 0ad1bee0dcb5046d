//! Bad connections between all parts: each stands behind a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use e2e::{Flow, Manners, Producer, Replica, Sink, Stack, World, until};

use crate::proxy::{BAD, Proxy, Weather};
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{Trial, failures};

/// How bad weather comes and goes.
#[derive(Clone, Copy, Debug)]
struct Times {
    lasts: Duration,
    /// How long everything works before the next one comes.
    calm: Duration,
}

/// A proxy between each two parts.
#[derive(Debug)]
struct Links {
    ingest_to_nats: Proxy,
    ingest_to_postgres: Proxy,
    worker_to_nats: Proxy,
    worker_to_postgres: Proxy,
    worker_to_receiver: Proxy,
}

impl Links {
    async fn start(stack: &Stack, sink: &Sink) -> anyhow::Result<Self> {
        let nats = address(&stack.nats_url())?;
        let postgres = SocketAddr::from(([127, 0, 0, 1], stack.postgres().port()));
        Ok(Self {
            ingest_to_nats: Proxy::start(nats).await?,
            ingest_to_postgres: Proxy::start(postgres).await?,
            worker_to_nats: Proxy::start(nats).await?,
            worker_to_postgres: Proxy::start(postgres).await?,
            worker_to_receiver: Proxy::start(sink.address()).await?,
        })
    }

    fn all(&self) -> [&Proxy; 5] {
        [
            &self.ingest_to_nats,
            &self.ingest_to_postgres,
            &self.worker_to_nats,
            &self.worker_to_postgres,
            &self.worker_to_receiver,
        ]
    }

    /// Makes a service reach its servers through these proxies.
    fn replica(stack: &Stack, nats: &Proxy, postgres: &Proxy) -> Replica {
        let own = format!(":{}/", stack.postgres().port());
        let proxied = format!(":{}/", postgres.address().port());
        let database = stack.database_url().replace(&own, &proxied);
        Replica::default()
            .with_env("NATS_URL", &format!("nats://{}", nats.address()))
            .with_env("DATABASE_URL", &database)
    }
}

/// Each kind of bad weather on each link, for two seconds.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let mut world = stage.setup().replicas(0, 0).start().await;
    let sink = Sink::start(Manners::default()).await;
    let links = Links::start(world.stack(), &sink).await?;
    let doors = start_services(&mut world, &links).await?;
    // A server that closes each connection at once is an error to the client's library.
    world.tolerate("async_nats::connector");
    let trial = Trial::assemble(world, sink, Some(links.worker_to_receiver.address())).await;

    let times = Times {
        lasts: stage.pick(Duration::from_secs(2), Duration::from_millis(500)),
        calm: stage.pick(Duration::from_secs(1), Duration::ZERO),
    };
    let producers = |doors: &[Proxy]| -> Vec<Producer> {
        let urls = doors.iter().map(|door| format!("http://{}", door.address()));
        urls.map(|url| trial.producer_via(&trial.organization, url))
            .collect()
    };
    let flow = Flow::start(producers(&doors), stage.rate());
    flow.is_accepted_by(doors.len()).await;
    for link in links.all() {
        spoil(&[link], times, &trial, &flow).await;
    }
    let mut answers = flow.stop().await;
    let failed = failures(&answers).len();

    // What a producer sees of its own bad connection is not bounded.
    let flow = Flow::start(producers(&doors), stage.rate());
    spoil(&doors.iter().collect::<Vec<_>>(), times, &trial, &flow).await;
    answers.extend(flow.stop().await);
    let mut report = trial.end(&answers).await;
    report.at_most("failed otherwise than 503 behind good connections", failed, 0);
    Ok(Outcome::Ran(report))
}

/// Two replicas of each service, and the doors to the `ingest-api`s.
async fn start_services(world: &mut World, links: &Links) -> anyhow::Result<Vec<Proxy>> {
    let stack = world.stack_mut();
    let ingest = Links::replica(stack, &links.ingest_to_nats, &links.ingest_to_postgres);
    let worker = Links::replica(stack, &links.worker_to_nats, &links.worker_to_postgres);
    let mut doors = Vec::new();
    for _ in 0..2 {
        let service = stack.add_ingest_with(ingest.clone()).await?;
        doors.push(Proxy::start(address(&service.url())?).await?);
        stack.add_worker_with(worker.clone()).await?;
    }
    Ok(doors)
}

async fn spoil(proxies: &[&Proxy], times: Times, trial: &Trial, flow: &Flow) {
    for weather in BAD {
        for proxy in proxies {
            proxy.set(weather);
        }
        tokio::time::sleep(times.lasts).await;
        for proxy in proxies {
            proxy.set(Weather::Clear);
        }
        everything_works(trial, flow).await;
        tokio::time::sleep(times.calm).await;
    }
}

/// Waits until each `ingest-api` takes an event and one more webhook arrives: the next weather is to fall on what works.
async fn everything_works(trial: &Trial, flow: &Flow) {
    let before = trial.sink.count();
    flow.is_accepted_by(trial.replicas()).await;
    until("one more webhook", async || match trial.sink.count() {
        count if count > before => Ok(()),
        count => Err(format!("{count} have arrived")),
    })
    .await;
}

/// The address in `scheme://address`.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let (_, address) = url.split_once("://").context("a URL has a scheme")?;
    address.parse().with_context(|| format!("{url} names no address"))
}
