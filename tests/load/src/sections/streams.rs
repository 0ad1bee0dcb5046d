//! One organisation's events over several streams of a cluster of three nats-servers, each with its own leader.

use crate::bench::{Bench, Load, Subject};
use crate::client::drive::Target;
use crate::site::{Site, SiteOptions};

const NAME: &str = "streams";

const NATS_NODES: u8 = 3;
const CONNECTIONS: usize = 64;

/// Events a second at which the cost of an event is compared.
const RATE: f64 = 1_172.0;

/// Numbers of streams that are compared.
const STREAMS: [(u32, &str); 3] = [(1, "1 stream"), (2, "2 streams"), (4, "4 streams")];

pub(crate) async fn measure(bench: &mut Bench) -> anyhow::Result<()> {
    let mut sites = Vec::new();
    for (streams, name) in STREAMS {
        bench.step(format!("starting {name}"));
        let options = SiteOptions {
            nats_nodes: NATS_NODES,
            streams,
            ..SiteOptions::INGEST
        };
        sites.push((name, Site::start(&options).await?));
    }
    for (label, load) in [
        (format!("{CONNECTIONS} connections, R{NATS_NODES}"), Load::Closed),
        (format!("{RATE} requests/s, R{NATS_NODES}"), Load::Open(RATE)),
    ] {
        let subjects: Vec<_> = sites.iter().map(|(name, site)| subject(name, site)).collect();
        let measured = bench.compare(NAME, &label, load, &subjects).await?;
        let (one, more) = measured.split_first().expect("there are three subjects");
        for more in more {
            let figure = |what: &str| format!("{what} with {} over 1, {label}", more.name);
            let faster = more.per_second() / one.per_second();
            bench.report.figure(NAME, figure("events/s"), faster, "×");
            let dearer = more.cpu_ms("server") / one.cpu_ms("server");
            bench
                .report
                .figure(NAME, figure("CPU of ingest-api an event"), dearer, "×");
        }
    }
    for (_, site) in sites {
        site.stop().await?;
    }
    Ok(())
}

fn subject<'a>(name: &'static str, site: &'a Site) -> Subject<'a> {
    Subject {
        name,
        target: Target {
            addresses: site.addresses(),
            requests: vec![site.event("load.sent")],
            keys: None,
            connections: CONNECTIONS,
        },
        watched: site.watched(),
        site: Some(site),
    }
}
