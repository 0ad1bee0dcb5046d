//! One replica of one of the two services, as a process of its own.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use rustls::{ClientConfig, RootCertStore};

use crate::children::host::Host;
use crate::children::ports::{PORT_TRIES, Port, PortBook};
use crate::children::process::Process;
use crate::children::spawn::Recipe;
use crate::folder::Folder;
use crate::options::Replica;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    IngestApi,
    DeliveryWorker,
}

impl Kind {
    /// Its package, its hidden subcommand and its name in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IngestApi => "ingest-api",
            Self::DeliveryWorker => "delivery-worker",
        }
    }
}

/// The parts with which all services of a stack are started.
#[derive(Debug)]
pub(crate) struct Launcher<'a> {
    pub(crate) host: &'a Host,
    pub(crate) folder: &'a Folder,
    pub(crate) ports: &'a PortBook,
    pub(crate) http: &'a reqwest::Client,
    /// The port that the first ingest-api should have, if it is free.
    pub(crate) api_port: Option<u16>,
    /// The command that starts a delivery-worker; empty when it starts by itself.
    pub(crate) worker_wrapper: &'a [String],
}

/// One `ingest-api` or `delivery-worker`.
#[derive(Debug)]
pub struct Service {
    process: Process,
    /// Where ingest-api takes events; a delivery-worker has no such address.
    api: Option<Port>,
    metrics: Port,
    http: reqwest::Client,
}

impl Service {
    /// Starts replica `index` of `kind` and waits until it is ready.
    pub(crate) async fn launch(
        launcher: &Launcher<'_>,
        kind: Kind,
        index: usize,
        replica: &Replica,
    ) -> anyhow::Result<Self> {
        let mut wanted = launcher
            .api_port
            .filter(|_| kind == Kind::IngestApi && index == 0);
        let name = format!("{} {index}", kind.name());
        let mut tries = PORT_TRIES;
        loop {
            let api = match kind {
                Kind::IngestApi => Some(match wanted.take().and_then(Port::exactly) {
                    Some(port) => port,
                    None => launcher.ports.claim(&name)?,
                }),
                Kind::DeliveryWorker => None,
            };
            let metrics = launcher.ports.claim(&format!("{name} metrics"))?;
            let process = Process::new(launcher.recipe(kind, &name, api.as_ref(), &metrics, replica));
            let mut service = Self {
                process,
                api,
                metrics,
                http: launcher.http.clone(),
            };
            tries -= 1;
            match launcher
                .host
                .progress
                .step(&format!("starting {name}"), service.start())
                .await
            {
                Ok(()) => return Ok(service),
                Err(_) if tries > 0 && service.process.port_was_taken() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts it again on the same ports and waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When it already runs, ends at once, or is not ready within 30 s.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.start_without_waiting()?;
        let (http, url) = (self.http.clone(), format!("{}/readyz", self.url()));
        self.process.until_ready(|| look(http.clone(), url.clone())).await
    }

    /// Starts it again on the same ports, for tests in which it cannot become ready.
    ///
    /// # Errors
    /// When it already runs.
    pub fn start_without_waiting(&mut self) -> anyhow::Result<()> {
        self.process.spawn()
    }

    /// Where it answers, without a slash at the end: the API of an ingest-api; of a delivery-worker,
    /// which has none, the address of its metrics and health.
    pub fn url(&self) -> String {
        format!("http://{}", self.api.as_ref().unwrap_or(&self.metrics).address())
    }

    /// Where Prometheus finds its metrics.
    pub fn metrics_url(&self) -> String {
        format!("http://{}/metrics", self.metrics.address())
    }

    pub(crate) fn api_port(&self) -> Option<u16> {
        self.api.as_ref().map(Port::number)
    }
}

impl Launcher<'_> {
    fn recipe(
        &self,
        kind: Kind,
        name: &str,
        api: Option<&Port>,
        metrics: &Port,
        replica: &Replica,
    ) -> Recipe {
        let mut env = vec![("METRICS_ADDR".to_owned(), metrics.address().to_string())];
        env.extend(api.map(|api| ("LISTEN_ADDR".to_owned(), api.address().to_string())));
        env.extend_from_slice(&replica.env);
        let wrapper = match kind {
            Kind::IngestApi => &[],
            Kind::DeliveryWorker => self.worker_wrapper,
        };
        let mut words = wrapper.iter().map(OsString::from).collect::<VecDeque<_>>();
        // Its own program is the service; the launcher's is told which of the two to be.
        match &replica.program {
            Some(program) => words.push_back(program.into()),
            None => words.extend([self.host.program.clone().into(), kind.name().into()]),
        }
        let command = words.pop_front().expect("it has one word at least").into();
        Recipe {
            name: name.to_owned(),
            launcher: self.host.program.clone(),
            command,
            args: words.into(),
            env,
            input: None,
            user: None,
            folder: self.folder.path().to_owned(),
            log: self.folder.logs().join(format!("{}.log", name.replace(' ', "-"))),
            output: None,
            last_signal: Signal::SIGKILL,
        }
    }
}

async fn look(http: reqwest::Client, url: String) -> anyhow::Result<()> {
    let status = http.get(&url).send().await?.status();
    ensure!(status == reqwest::StatusCode::OK, "{url} answers {status}");
    Ok(())
}

/// A client for plain HTTP on this machine. It is given a TLS configuration that trusts nobody, because
/// it would otherwise look for a process-wide one, which a library must not set.
pub(crate) fn http_client() -> anyhow::Result<reqwest::Client> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured(tls)
        .build();
    client.context("cannot make an HTTP client")
}

impl Deref for Service {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Service {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
