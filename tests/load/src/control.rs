//! The controls: servers that do less than `ingest-api`, each in a process of its own, with the same runtime and
//! the same allocator.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::Context as _;
use async_nats::jetstream;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use shared::process::shutdown::RuntimeConfig;
use tokio::net::TcpListener;

/// The hidden subcommand that becomes a control.
pub(crate) const SUBCOMMAND: &str = "control";

const STREAM: &str = "CONTROL";
const SUBJECT: &str = "control";

/// Bytes at which the stream drops its oldest messages, as many as a stream of events holds.
const STREAM_BYTES: i64 = 1 << 30;

/// A running control. It ends with this handle.
#[derive(Debug)]
pub(crate) struct Control {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Control {
    /// Reads bodies and answers 202.
    pub(crate) fn bare() -> anyhow::Result<Self> {
        Self::start(&[])
    }

    /// Publishes each body, waits for the acknowledgement and answers 202.
    pub(crate) fn naive(nats_url: &str) -> anyhow::Result<Self> {
        Self::start(&[nats_url])
    }

    fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a control")?;
        let stdout = child.stdout.take().context("a control has a standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().parse().context("a control did not start")?;
        Ok(Self { child, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Becomes a control; ends when its standard input does, which the kernel closes with the parent.
pub(crate) fn main() -> ExitCode {
    let nats_url = std::env::args().nth(2);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let served = RuntimeConfig::SHIPPED
        .build()
        .and_then(|runtime| runtime.block_on(serve(nats_url)));
    if let Err(error) = served {
        eprintln!("control: {error:#}");
    }
    ExitCode::FAILURE
}

async fn serve(nats_url: Option<String>) -> anyhow::Result<()> {
    let handler = match nats_url {
        None => post(bare),
        Some(url) => post(naive).with_state(stream(&url).await?),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/v1/events", handler)).await?;
    Ok(())
}

async fn stream(url: &str) -> anyhow::Result<jetstream::Context> {
    let jetstream = jetstream::new(async_nats::connect(url).await?);
    let config = jetstream::stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        max_bytes: STREAM_BYTES,
        ..jetstream::stream::Config::default()
    };
    jetstream.create_or_update_stream(config).await?;
    Ok(jetstream)
}

async fn bare(_: Bytes) -> StatusCode {
    StatusCode::ACCEPTED
}

async fn naive(State(jetstream): State<jetstream::Context>, body: Bytes) -> StatusCode {
    let published = async { jetstream.publish(SUBJECT, body).await?.await };
    match published.await {
        Ok(_) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
