//! Requests with one event, beside the controls.

use std::path::PathBuf;

use penstock_local::NatsSync;

use crate::bench::{Bench, Load, Measured, Subject};
use crate::client::drive::Target;
use crate::control::Control;
use crate::site::{Site, SiteOptions};
use crate::usage::Watched;

const NAME: &str = "single";

/// Requests a second of the open loop: a hundred thousand events a day, a hundredfold at the peak.
const OPEN_RATE: f64 = 1_172.0;

/// Everything that is compared: all run at once, and those that are not measured are idle.
struct World {
    alone: Site,
    lazy: Site,
    with_worker: Site,
    before: Option<Site>,
    bare: Control,
    naive: Control,
    naive_sync: Control,
}

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    bench.step("starting three stacks and three controls");
    let world = World::start(bench.against.clone()).await?;
    let connections: &[usize] = if bench.effort.quick { &[64] } else { &[64, 256] };
    for connections in connections {
        throughput(bench, &world, *connections).await?;
    }
    one_connection(bench, &world).await?;
    open_loop(bench, &world).await?;
    let sites = [world.alone, world.lazy, world.with_worker];
    for site in sites.into_iter().chain(world.before) {
        site.stop().await?;
    }
    Ok(())
}

impl World {
    async fn start(against: Option<PathBuf>) -> anyhow::Result<Self> {
        let alone = Site::start(&SiteOptions::INGEST).await?;
        let lazy = SiteOptions {
            sync: NatsSync::Lazy,
            ..SiteOptions::INGEST
        };
        let lazy = Site::start(&lazy).await?;
        let before = match against {
            None => None,
            program => {
                let options = SiteOptions {
                    program,
                    ..SiteOptions::INGEST
                };
                Some(Site::start(&options).await?)
            }
        };
        Ok(Self {
            before,
            with_worker: Site::start(&SiteOptions::WHOLE).await?,
            bare: Control::bare()?,
            naive: Control::naive(&lazy.stack.nats_url())?,
            naive_sync: Control::naive(&alone.stack.nats_url())?,
            alone,
            lazy,
        })
    }

    fn penstock<'a>(name: &'static str, site: &'a Site, connections: usize) -> Subject<'a> {
        Subject {
            name,
            target: Target {
                addresses: site.addresses(),
                requests: vec![site.event("load.sent")],
                keys: None,
                connections,
            },
            watched: site.watched(),
            site: Some(site),
        }
    }

    fn control(
        &self,
        name: &'static str,
        control: &Control,
        nats: Option<&Site>,
        connections: usize,
    ) -> Subject<'_> {
        let mut watched = vec![
            Watched::this_program(),
            Watched {
                name: "server",
                pid: control.pid(),
            },
        ];
        let servers = nats.map(Site::watched).unwrap_or_default();
        watched.extend(servers.into_iter().filter(|watched| watched.name == "nats"));
        Subject {
            name,
            target: Target {
                addresses: vec![control.address],
                requests: vec![self.alone.event("load.sent")],
                keys: None,
                connections,
            },
            watched,
            site: None,
        }
    }
}

async fn throughput(bench: &mut Bench, world: &World, connections: usize) -> anyhow::Result<()> {
    let load = format!("{connections} connections");
    let mut subjects = vec![
        World::penstock("penstock", &world.alone, connections),
        world.control("bare", &world.bare, None, connections),
        world.control("naive", &world.naive, Some(&world.lazy), connections),
        world.control("naive-sync", &world.naive_sync, Some(&world.alone), connections),
        World::penstock("penstock+worker", &world.with_worker, connections),
    ];
    let before = world.before.iter();
    subjects.extend(before.map(|site| World::penstock("before", site, connections)));
    let measured = bench.compare(NAME, &load, Load::Closed, &subjects).await?;
    let [penstock, bare, naive, naive_sync, ..] = &measured[..] else {
        anyhow::bail!("each subject gives a result");
    };
    let mut ratio = |control: &Measured, wanted| {
        let what = format!("throughput at {load}, over {}", control.name);
        let ratio = penstock.per_second() / control.per_second();
        bench.report.at_least(NAME, what, ratio, wanted, "×");
    };
    ratio(naive, 1.5);
    ratio(bare, 0.6);
    ratio(naive_sync, 30.0);
    let (ours, theirs) = (penstock.latency_ms(0.99), naive.latency_ms(0.99));
    bench
        .report
        .at_most(NAME, format!("p99 at {load}, and naive's"), ours, theirs, "ms");
    Ok(())
}

async fn one_connection(bench: &mut Bench, world: &World) -> anyhow::Result<()> {
    let subjects = [
        World::penstock("penstock", &world.alone, 1),
        world.control("naive-sync", &world.naive_sync, Some(&world.alone), 1),
    ];
    let measured = bench
        .compare(NAME, "1 connection", Load::Closed, &subjects)
        .await?;
    let [penstock, naive_sync] = &measured[..] else {
        anyhow::bail!("two subjects give two results");
    };
    let ratio = penstock.latency_ms(0.5) / naive_sync.latency_ms(0.5);
    bench
        .report
        .at_most(NAME, "p50 of 1 connection, over naive-sync", ratio, 1.3, "×");
    Ok(())
}

async fn open_loop(bench: &mut Bench, world: &World) -> anyhow::Result<()> {
    let load = format!("{OPEN_RATE} requests/s");
    let subjects = [
        World::penstock("penstock", &world.alone, 64),
        world.control("naive-sync", &world.naive_sync, Some(&world.alone), 64),
        World::penstock("penstock, lazy", &world.lazy, 64),
        world.control("naive", &world.naive, Some(&world.lazy), 64),
    ];
    let measured = bench
        .compare(NAME, &load, Load::Open(OPEN_RATE), &subjects)
        .await?;
    let [penstock, naive_sync, lazy, _] = &measured[..] else {
        anyhow::bail!("four subjects give four results");
    };
    for (name, quantile, limit) in [("p50", 0.5, 0.74), ("p95", 0.95, 1.35), ("p99", 0.99, 2.65)] {
        let ratio = penstock.latency_ms(quantile) / naive_sync.latency_ms(quantile);
        let what = format!("{name} at {load}, over naive-sync");
        bench.report.at_most(NAME, what, ratio, 1.2, "×");
        let what = format!("{name} at {load}, lazy sync");
        bench
            .report
            .at_most(NAME, what, lazy.latency_ms(quantile), limit, "ms");
    }
    Ok(())
}
