//! `cargo dev`: a stack to play with, until Ctrl-C.

mod demo;
mod receiver;
mod supervise;

use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::unistd::geteuid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::supervise::supervise;
use crate::children::process::Process;
use crate::folder::DataFolder;
use crate::options::StackOptions;
use crate::say::say;
use crate::stack::Stack;
use crate::state::Demo;

/// Runs nats-server, Postgres, both services and a demo receiver on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct DevOptions {
    /// How many ingest-api processes.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    ingest: u8,

    /// How many delivery-worker processes.
    #[arg(long, default_value_t = 1)]
    workers: u8,

    /// The port of the API on 127.0.0.1; another one is chosen when it is taken.
    #[arg(long, default_value_t = 8080)]
    port: u16,

    /// The folder for all data [default: .penstock in the workspace; as root one in /var/lib/penstock-dev]
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Runs until it is asked to stop.
pub(crate) async fn run(options: DevOptions) -> anyhow::Result<()> {
    let mut stop = StopSignals::listen()?;
    let stack_options = StackOptions {
        data: DataFolder::Kept(options.data.map_or_else(default_data, Ok)?),
        ingest: options.ingest.into(),
        workers: options.workers.into(),
        api_port: Some(options.port),
        progress: true,
        // Anyone on this machine may try the API with an organisation of their own.
        ingest_env: vec![("ALLOW_SIGNUP".to_owned(), "true".to_owned())],
        ..StackOptions::default()
    };
    let started = tokio::select! {
        started = Stack::start(stack_options) => Some(started?),
        () = stop.requested() => None,
    };
    let Some(mut stack) = started else {
        say("stopped");
        return Ok(());
    };
    let session = tokio::select! {
        session = session(&mut stack, options.port) => session,
        () = stop.requested() => Ok(()),
    };
    // A second signal kills the processes that have not ended by then.
    let stopped = tokio::select! {
        stopped = stack.stop() => stopped,
        () = stop.requested() => Ok(()),
    };
    say("stopped");
    session.and(stopped)
}

/// Shows webhooks and starts again processes that die. It ends only with an error.
async fn session(stack: &mut Stack, wanted_port: u16) -> anyhow::Result<()> {
    let (demo, receiver) = demo::prepare(stack).await?;
    if stack.ingest(0).api_port() != Some(wanted_port) {
        say(&format!("Port {wanted_port} is taken: the API has another one."));
    }
    introduce(stack, &demo);
    tokio::select! {
        served = receiver.serve(&demo) => served,
        supervised = supervise(stack) => supervised.map(|never| match never {}),
    }
}

/// Tells the user everything needed to use the stack.
fn introduce(stack: &Stack, demo: &Demo) {
    let api = stack.ingest(0).url();
    let line = |what: &str, value: &str| say(&format!("  {what:<14}{value}"));
    say("\nPenstock is running.\n");
    for service in stack.services().filter(|service| service.api_port().is_some()) {
        line("API", &service.url());
    }
    line("console", &format!("{api}/console#sign-in={}", demo.key));
    line("API key", &demo.key);
    line("organisation", &demo.organization);
    line("admin token", stack.admin_token());
    for service in stack.services() {
        line(
            "metrics",
            &format!("{}  ({})", service.metrics_url(), service.name()),
        );
    }
    line("database", stack.database_url());
    line(
        "NATS",
        &format!(
            "{}  (figures: {})",
            stack.nats_url(),
            stack.nats().monitoring_url()
        ),
    );
    line("data", &stack.data_dir().display().to_string());
    line("logs", &stack.logs().display().to_string());
    let servers: [&Process; 2] = [stack.nats(), stack.postgres()];
    for process in servers
        .into_iter()
        .chain(stack.services().map(|service| &**service))
    {
        line(
            "process",
            &format!("{:<8} {}", process.pid().unwrap_or_default(), process.name()),
        );
    }
    say("\nSend an event:\n");
    say(&format!(
        "  curl -i {api}/v1/events \\\n    -H 'Authorization: Bearer {}' \\\n    \
         -H 'Content-Type: application/json' \\\n    -d '{{\"type\":\"invoice.paid\",\"data\":{{\"amount\":1200}}}}'",
        demo.key,
    ));
    if let [one, ..] = &*demo.tenants {
        let names: Vec<_> = demo.tenants.iter().map(|tenant| tenant.uid.as_str()).collect();
        say(&format!(
            "\nThe organisation has tenants ({}). With \"tenant\":\"{}\" in the body the event goes to that one's endpoint.",
            names.join(", "),
            one.uid,
        ));
    }
    say("\nIts webhook appears below. `kill -9` any process: nothing is lost. Ctrl-C stops everything.\n");
}

/// The workspace that this program was built in, or where it is started if that is gone.
fn workspace() -> anyhow::Result<PathBuf> {
    let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if built_in.join("Cargo.toml").is_file() {
        return built_in.canonicalize().context("cannot find the workspace");
    }
    std::env::current_dir().context("cannot find the current folder")
}

/// Root's workspace may be in a folder that the user who runs Postgres cannot enter, such as its home.
fn default_data() -> anyhow::Result<PathBuf> {
    let workspace = workspace()?;
    if !geteuid().is_root() {
        return Ok(workspace.join(".penstock"));
    }
    let hash = blake3::hash(workspace.as_os_str().as_encoded_bytes()).to_hex();
    Ok(Path::new("/var/lib/penstock-dev").join(&hash[..8]))
}

/// The signals that ask a program to stop: Ctrl-C, `kill`, the end of its terminal.
#[derive(Debug)]
pub(crate) struct StopSignals([Signal; 3]);

impl StopSignals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for one of them.
    pub(crate) async fn requested(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
