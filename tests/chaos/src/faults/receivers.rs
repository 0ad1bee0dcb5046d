//! Receivers that flood the worker, and receivers whose connections hang.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use e2e::{
    Event, Frame, Http2Peer, Manners, Organization, RawReceiver, Tls, frame, read_request, until_within,
};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use sqlx::types::time::OffsetDateTime;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// Deliveries to one flooding endpoint at once.
const AT_ONCE: usize = 64;

/// How long an attempt at a flooding endpoint may take.
const TIMEOUT_MS: u64 = 5_000;

/// Until all of them have ended.
const ENDED: Duration = Duration::from_secs(60);

/// What a good neighbour's p99 is measured against is never less than this: below, it is the machine that is measured.
const SHORT: f64 = 0.020;

/// How much of a core the workers may use when nothing is to be done, in per cent.
const IDLE_CPU: f64 = 10.0;

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// What is repeated without end, and before it what is said once. Frames go to the request's stream.
struct Flood {
    name: &'static str,
    is_http2: bool,
    once: fn() -> Vec<u8>,
    again: fn() -> Vec<u8>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// The stream of the only request.
const STREAM: u32 = 1;

fn nothing() -> Vec<u8> {
    Vec::new()
}

/// `:status 200`, and the headers go on.
fn begun_headers() -> Vec<u8> {
    Frame::bytes(frame::HEADERS, 0, STREAM, &[0x88])
}

fn headers() -> Vec<u8> {
    Frame::bytes(frame::HEADERS, frame::END_HEADERS, STREAM, &[0x88])
}

const FLOODS: &[Flood] = &[
    Flood {
        name: "interim",
        is_http2: false,
        once: nothing,
        again: || b"HTTP/1.1 102 Processing\r\n\r\n".to_vec(),
    },
    Flood {
        name: "header",
        is_http2: false,
        once: || OK[..17].into(),
        again: || b"x: y\r\n".to_vec(),
    },
    Flood {
        name: "body",
        is_http2: false,
        once: || OK.into(),
        again: || b"1\r\nx\r\n".to_vec(),
    },
    Flood {
        name: "trailers",
        is_http2: false,
        once: || [OK, "0\r\n"].concat().into(),
        again: || b"x: y\r\n".to_vec(),
    },
    Flood {
        name: "ping",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PING, 0, 0, &[0; 8]),
    },
    Flood {
        name: "ping-ack",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PING, frame::ACK, 0, &[0; 8]),
    },
    Flood {
        name: "window",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::WINDOW_UPDATE, 0, STREAM, &[0, 0, 0, 1]),
    },
    Flood {
        name: "priority",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
    },
    Flood {
        name: "unknown",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(0xfa, 0, 0, b""),
    },
    Flood {
        name: "settings",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::SETTINGS, 0, 0, &[]),
    },
    Flood {
        name: "continuation",
        is_http2: true,
        once: begun_headers,
        again: || Frame::bytes(frame::CONTINUATION, 0, STREAM, &[]),
    },
    Flood {
        name: "empty-data",
        is_http2: true,
        once: headers,
        again: || Frame::bytes(frame::DATA, 0, STREAM, &[]),
    },
    Flood {
        name: "interim-2",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::HEADERS, frame::END_HEADERS, STREAM, b"\x08\x03102"),
    },
];

impl Flood {
    fn talk(&'static self, tls: Tls, stream: TcpStream) -> BoxFuture<'static, ()> {
        async move {
            let again = (self.again)();
            let piece = again.repeat(PIECE / again.len());
            if self.is_http2 {
                let Ok(mut peer) = tls.http2(stream).await else {
                    return;
                };
                let mut written = peer.request().await.map(drop);
                if written.is_ok() {
                    written = peer.write_raw(&(self.once)()).await;
                }
                while written.is_ok() {
                    written = peer.write_raw(&piece).await;
                }
            } else {
                let mut stream = stream;
                read_request(&mut stream).await;
                let mut written = stream.write_all(&(self.once)()).await;
                while written.is_ok() {
                    written = stream.write_all(&piece).await;
                }
            }
        }
        .boxed()
    }
}

/// A file for a certificate, which goes with its folder.
fn certificate() -> anyhow::Result<(tempfile::TempDir, Tls)> {
    let folder = tempfile::Builder::new().prefix("penstock-tls-").tempdir()?;
    let tls = Tls::new(PathBuf::from(folder.path()), "receiver");
    Ok((folder, tls))
}

/// Each kind of flood, with one delivery and then with many at once, beside a good endpoint of another organisation.
pub(crate) async fn flooding(stage: &Stage) -> Tried {
    let (_folder, tls) = certificate()?;
    let setup = stage.setup().worker_env("SSL_CERT_FILE", tls.file());
    let trial = Trial::start(setup, Manners::default()).await;
    let hostile = trial.world.organization().await;
    let _receivers = flooders(&trial, &hostile, &tls).await;
    let flow = trial.flow(stage).await;
    let pause = Duration::from_secs(stage.pick(10, 1));
    tokio::time::sleep(pause).await;
    let calm = now(&trial).await?;
    tokio::time::sleep(pause).await;
    let attacked = now(&trial).await?;
    let producer = trial.world.producer(&hostile);
    let mut worst = (0.0, String::new());
    for flood in FLOODS {
        for count in [1, AT_ONCE] {
            let from = now(&trial).await?;
            join_all((0..count).map(|_| async { producer.send(&Event::new(flood.name, "1")).await })).await;
            until_ended(&trial, &hostile, stage.bound(ENDED)).await;
            tokio::time::sleep(pause / 5).await;
            let p99 = p99(&trial, from, now(&trial).await?).await?;
            if p99 > worst.0 {
                worst = (p99, format!("{} × {count}", flood.name));
            }
        }
    }
    let over = now(&trial).await?;
    let answers = flow.stop().await;
    let before = p99(&trial, calm, attacked).await?;
    let during = p99(&trial, attacked, over).await?;
    trial.settle().await;
    let cpu = cpu(&trial, pause).await?;
    let mut report = trial.end(&answers).await;
    report.note(format!(
        "p99 before {before:.4} s, meanwhile {during:.4} s, worst {:.4} s with {}",
        worst.0, worst.1
    ));
    report.at_most("workers' CPU afterwards (%)", cpu, stage.pick(IDLE_CPU, 100.0));
    if !stage.quick && during > 1.1 * before.max(SHORT) {
        report
            .broken
            .push("p99 meanwhile is more than 10 % longer".to_owned());
    }
    Ok(Outcome::Ran(report))
}

async fn flooders(trial: &Trial, hostile: &Organization, tls: &Tls) -> Vec<RawReceiver> {
    let mut receivers = Vec::new();
    for flood in FLOODS {
        let tls = tls.clone();
        let talk = move |stream| flood.talk(tls.clone(), stream);
        let receiver = RawReceiver::start("127.0.0.1:0", talk).await;
        let url = if flood.is_http2 {
            receiver.url().replace("http:", "https:")
        } else {
            receiver.url()
        };
        let fields = json!({"event_types": [flood.name], "max_in_flight": AT_ONCE, "timeout_ms": TIMEOUT_MS,
                            "retry": {"attempts": 1}});
        trial.world.endpoint_at(hostile, &url, fields).await;
        receivers.push(receiver);
    }
    receivers
}

async fn until_ended(trial: &Trial, organization: &Organization, bound: Duration) {
    until_within(bound, "the deliveries to end", async || {
        let query = "select count(*) from events e left join deliveries d on d.event_id = e.id
                     where e.org_id = $1 and (d.status is null or d.status = 'pending')";
        let query = sqlx::query_scalar(query).bind(organization.id);
        let left: i64 = query
            .fetch_one(trial.database())
            .await
            .map_err(|error| error.to_string())?;
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    })
    .await;
}

async fn now(trial: &Trial) -> anyhow::Result<OffsetDateTime> {
    Ok(sqlx::query_scalar("select clock_timestamp()")
        .fetch_one(trial.database())
        .await?)
}

/// Seconds from acceptance to delivery of the good organisation's events that were accepted in this time.
async fn p99(trial: &Trial, from: OffsetDateTime, until: OffsetDateTime) -> anyhow::Result<f64> {
    let query = "select percentile_disc(0.99) within group (order by
                     extract(epoch from a.started_at - e.accepted_at)::float8 + a.duration_ms / 1000.0::float8)
                 from attempt_history a join events e on e.id = a.event_id
                 where e.org_id = $1 and e.accepted_at between $2 and $3";
    let query = sqlx::query_scalar(query)
        .bind(trial.organization.id)
        .bind(from)
        .bind(until);
    let p99: Option<f64> = query.fetch_one(trial.database()).await?;
    p99.context("nothing was delivered")
}

/// Per cent of a core that all workers use.
async fn cpu(trial: &Trial, during: Duration) -> anyhow::Result<f64> {
    let ticks = || {
        let workers = trial
            .stack()
            .services()
            .filter(|service| service.name().starts_with("delivery-worker"));
        let pids = workers.filter_map(|service| service.pid());
        pids.map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields = stat.rsplit(')').next().unwrap_or_default();
            let times = fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<f64>().ok());
            anyhow::Ok(times.sum::<f64>())
        })
        .sum::<anyhow::Result<f64>>()
    };
    let before = ticks()?;
    tokio::time::sleep(during).await;
    // A tick is a hundredth of a second.
    Ok((ticks()? - before) / during.as_secs_f64())
}

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
    until_ended(&trial, &organization, stage.bound(ENDED)).await;
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
