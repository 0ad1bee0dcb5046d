//! The whole of Penstock on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, try_join_all};
use nix::sys::signal::Signal;
use sqlx::postgres::PgPoolOptions;

use crate::folder::Folder;
use crate::host::Host;
use crate::nats::Nats;
use crate::options::StackOptions;
use crate::ports::PortBook;
use crate::postgres::{Postgres, Shutdown};
use crate::process::Process;
use crate::progress::Progress;
use crate::service::{Kind, Launcher, Service, http_client};
use crate::state::State;

/// How long a service may take to finish what it is doing when the stack is stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A nats-server, a Postgres and any number of both services, all ready when they are handed out.
/// Dropping it kills everything and removes a temporary data folder.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: the services first, the folder last.
    ingest: Vec<Service>,
    workers: Vec<Service>,
    nats: Nats,
    postgres: Postgres,
    state: State,
    ports: PortBook,
    host: Host,
    http: reqwest::Client,
    options: StackOptions,
    folder: Folder,
}

impl Stack {
    /// Starts everything and waits until everything is ready.
    ///
    /// # Errors
    /// When a part cannot be found, started, or is not ready within 30 s: with the end of its log.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let host = Host::new(
            options.program.clone(),
            Progress {
                shown: options.progress,
            },
        )?;
        let folder = Folder::open(&host, &options.data).await?;
        let mut state = State::load(folder.path())?;
        let ports = PortBook::new(std::mem::take(&mut state.ports));
        let nats = Nats::launch(&host, &folder, &ports);
        let postgres = Postgres::launch(&host, &folder, &ports);
        let (nats, postgres) = tokio::try_join!(nats, postgres)?;
        host.progress
            .step("migrating the database", migrate(postgres.url()))
            .await?;
        if postgres.is_new() {
            // It was in the database.
            state.demo = None;
        }
        let (ingest, workers, http) = (Vec::new(), Vec::new(), http_client()?);
        let mut stack = Self {
            ingest,
            workers,
            nats,
            postgres,
            state,
            ports,
            host,
            http,
            options,
            folder,
        };
        stack.start_services().await?;
        Ok(stack)
    }

    async fn start_services(&mut self) -> anyhow::Result<()> {
        let ingest = (0..self.options.ingest).map(|index| self.launch(Kind::IngestApi, index));
        let workers = (0..self.options.workers).map(|index| self.launch(Kind::DeliveryWorker, index));
        let (ingest, workers) = tokio::try_join!(try_join_all(ingest), try_join_all(workers))?;
        (self.ingest, self.workers) = (ingest, workers);
        self.save_state()
    }

    /// Starts one more `ingest-api` and waits until it is ready.
    pub async fn add_ingest(&mut self) -> anyhow::Result<&mut Service> {
        let service = self.launch(Kind::IngestApi, self.ingest.len()).await?;
        self.ingest.push(service);
        Ok(self.ingest.last_mut().expect("it was just pushed"))
    }

    /// Starts one more `delivery-worker` and waits until it is ready.
    pub async fn add_worker(&mut self) -> anyhow::Result<&mut Service> {
        let service = self.launch(Kind::DeliveryWorker, self.workers.len()).await?;
        self.workers.push(service);
        Ok(self.workers.last_mut().expect("it was just pushed"))
    }

    async fn launch(&self, kind: Kind, index: usize) -> anyhow::Result<Service> {
        let launcher = Launcher {
            host: &self.host,
            folder: &self.folder,
            ports: &self.ports,
            http: &self.http,
            api_port: self.options.api_port,
            worker_wrapper: &self.options.worker_wrapper,
        };
        Service::launch(&launcher, kind, index, self.service_env(kind)).await
    }

    fn service_env(&self, kind: Kind) -> Vec<(String, String)> {
        let mut env = vec![
            ("DATABASE_URL", self.postgres.url().to_owned()),
            ("NATS_URL", self.nats.url()),
            ("SECRETS_KEY", self.state.secrets_key.clone()),
            // Receivers of a local stack are on this machine, where webhooks otherwise never go.
            ("EGRESS_ALLOW", "127.0.0.0/8".to_owned()),
        ];
        let extra = match kind {
            Kind::IngestApi => {
                env.push(("ADMIN_TOKEN", self.state.admin_token.clone()));
                &self.options.ingest_env
            }
            Kind::DeliveryWorker => &self.options.worker_env,
        };
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value));
        env.chain(extra.iter().cloned()).collect()
    }

    /// Stops everything in order: the services (SIGTERM), then nats-server and Postgres. Removes a
    /// temporary data folder.
    ///
    /// # Errors
    /// When a service did not end with status 0 within 30 s, after everything was stopped.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let services = self.ingest.iter_mut().chain(&mut self.workers);
        let stops = join_all(services.map(|service| stop_service(service))).await;
        let nats = stop_server(&mut self.nats, Signal::SIGTERM);
        let (nats, postgres) = {
            let postgres = async {
                if self.postgres.pid().is_some() {
                    self.postgres.stop(Shutdown::Fast).await
                } else {
                    Ok(())
                }
            };
            tokio::join!(nats, postgres)
        };
        stops.into_iter().chain([nats, postgres]).collect()
    }

    /// The nats-server, to be killed and started again.
    pub fn nats_mut(&mut self) -> &mut Nats {
        &mut self.nats
    }

    /// The nats-server.
    pub fn nats(&self) -> &Nats {
        &self.nats
    }

    /// The Postgres, to be killed and started again.
    pub fn postgres_mut(&mut self) -> &mut Postgres {
        &mut self.postgres
    }

    /// The Postgres.
    pub fn postgres(&self) -> &Postgres {
        &self.postgres
    }

    /// The `ingest-api` number `index`, from 0. Panics when there is no such one.
    pub fn ingest(&self, index: usize) -> &Service {
        &self.ingest[index]
    }

    /// The same, to be killed and started again.
    pub fn ingest_mut(&mut self, index: usize) -> &mut Service {
        &mut self.ingest[index]
    }

    /// The `delivery-worker` number `index`, from 0. Panics when there is no such one.
    pub fn worker(&self, index: usize) -> &Service {
        &self.workers[index]
    }

    /// The same, to be killed and started again.
    pub fn worker_mut(&mut self, index: usize) -> &mut Service {
        &mut self.workers[index]
    }

    /// All services, `ingest-api` first.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.ingest.iter().chain(&self.workers)
    }

    pub(crate) fn services_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.ingest.iter_mut().chain(&mut self.workers)
    }

    /// The database's URL, with its password.
    pub fn database_url(&self) -> &str {
        self.postgres.url()
    }

    /// `nats://127.0.0.1:port`.
    pub fn nats_url(&self) -> String {
        self.nats.url()
    }

    /// What the admin API takes as bearer token.
    pub fn admin_token(&self) -> &str {
        &self.state.admin_token
    }

    /// The data folder. The log of each process is in `logs` in it.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.folder.logs()
    }

    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Writes down what the next start with this data folder should know.
    pub(crate) fn save_state(&mut self) -> anyhow::Result<()> {
        self.state.ports = self.ports.chosen();
        self.state.save()
    }
}

/// Brings the database to this build's schema.
pub(crate) async fn migrate(url: &str) -> anyhow::Result<()> {
    let pool = PgPoolOptions::new().max_connections(1).connect(url).await?;
    shared::db::migrate(&pool).await?;
    pool.close().await;
    Ok(())
}

async fn stop_service(service: &mut Process) -> anyhow::Result<()> {
    if service.pid().is_none() {
        return Ok(());
    }
    let status = service.terminate(STOP_DEADLINE).await.context("cannot stop it")?;
    if !status.success() {
        bail!(
            "{} {} when asked to stop{}",
            service.name(),
            crate::process::describe(status),
            service.tail()
        );
    }
    Ok(())
}

async fn stop_server(server: &mut Process, signal: Signal) -> anyhow::Result<()> {
    if server.pid().is_some() {
        server.stop_with(signal, STOP_DEADLINE).await?;
    }
    Ok(())
}
