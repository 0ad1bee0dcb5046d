//! The whole of Penstock on this machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::{join_all, try_join_all};
use nix::sys::signal::Signal;

use crate::cluster::Files;
use crate::folder::Folder;
use crate::host::Host;
use crate::nats::Nats;
use crate::options::{Replica, StackOptions};
use crate::ports::PortBook;
use crate::postgres::{Postgres, Shutdown};
use crate::process::Process;
use crate::progress::Progress;
use crate::service::{Kind, Launcher, Service, http_client};
use crate::state::State;
use crate::template;

/// How long a service may take to finish what it is doing when the stack is stopped.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// NATS, a Postgres and any number of both services, all ready when they are handed out.
/// Dropping it kills everything and removes a temporary data folder.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: the services first, the folder last.
    ingest: Vec<Service>,
    workers: Vec<Service>,
    nats: Vec<Nats>,
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
        let nats = Nats::launch(&host, &folder, &ports, &options.nats);
        let files = Files {
            store: options.postgres_store.clone(),
            template: if options.migrated && !folder.kept {
                Some(template::migrated(&host).await?)
            } else {
                None
            },
        };
        let postgres = Postgres::launch(&host, &folder, &ports, &files);
        let (nats, postgres) = tokio::try_join!(nats, postgres)?;
        if options.migrated {
            host.progress
                .step("migrating the database", postgres.migrate())
                .await?;
        }
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
        let ingest =
            (0..self.options.ingest).map(|index| self.launch(Kind::IngestApi, index, Replica::default()));
        let workers = (0..self.options.workers)
            .map(|index| self.launch(Kind::DeliveryWorker, index, Replica::default()));
        let (ingest, workers) = tokio::try_join!(try_join_all(ingest), try_join_all(workers))?;
        (self.ingest, self.workers) = (ingest, workers);
        self.save_state()
    }

    /// Starts one more `ingest-api` and waits until it is ready.
    pub async fn add_ingest(&mut self) -> anyhow::Result<&mut Service> {
        self.add_ingest_with(Replica::default()).await
    }

    /// Starts one more `ingest-api` that differs from the others, and waits until it is ready.
    pub async fn add_ingest_with(&mut self, replica: Replica) -> anyhow::Result<&mut Service> {
        let service = self.launch(Kind::IngestApi, self.ingest.len(), replica).await?;
        self.ingest.push(service);
        Ok(self.ingest.last_mut().expect("it was just pushed"))
    }

    /// Starts one more `delivery-worker` and waits until it is ready.
    pub async fn add_worker(&mut self) -> anyhow::Result<&mut Service> {
        self.add_worker_with(Replica::default()).await
    }

    /// Starts one more `delivery-worker` that differs from the others, and waits until it is ready.
    pub async fn add_worker_with(&mut self, replica: Replica) -> anyhow::Result<&mut Service> {
        let service = self
            .launch(Kind::DeliveryWorker, self.workers.len(), replica)
            .await?;
        self.workers.push(service);
        Ok(self.workers.last_mut().expect("it was just pushed"))
    }

    async fn launch(&self, kind: Kind, index: usize, mut replica: Replica) -> anyhow::Result<Service> {
        let launcher = Launcher {
            host: &self.host,
            folder: &self.folder,
            ports: &self.ports,
            http: &self.http,
            api_port: self.options.api_port,
            worker_wrapper: &self.options.worker_wrapper,
        };
        let own = std::mem::replace(&mut replica.env, self.service_env(kind));
        replica.env.extend(own);
        Service::launch(&launcher, kind, index, &replica).await
    }

    fn service_env(&self, kind: Kind) -> Vec<(String, String)> {
        let nats_urls: Vec<_> = self.nats.iter().map(|nats| nats.url_of(kind.name())).collect();
        let mut env = vec![
            ("DATABASE_URL", self.postgres.url().to_owned()),
            ("NATS_URL", nats_urls.join(",")),
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
        let nats = join_all(
            self.nats
                .iter_mut()
                .map(|nats| stop_server(nats, Signal::SIGTERM)),
        );
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
        stops.into_iter().chain(nats).chain([postgres]).collect()
    }

    /// The nats-server, the first one of a cluster, to be killed and started again.
    pub fn nats_mut(&mut self) -> &mut Nats {
        self.nats_node_mut(0)
    }

    /// The nats-server, the first one of a cluster.
    pub fn nats(&self) -> &Nats {
        &self.nats[0]
    }

    /// All nats-servers.
    pub fn nats_nodes(&self) -> &[Nats] {
        &self.nats
    }

    /// The nats-server number `index`, to be killed and started again. Panics when there is no such one.
    pub fn nats_node_mut(&mut self, index: usize) -> &mut Nats {
        &mut self.nats[index]
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

    /// Brings the database to this build's schema, where that was not done at the start.
    ///
    /// # Errors
    /// When Postgres does not run, or holds another schema.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        self.postgres.migrate().await
    }

    /// The database's URL, with its password.
    pub fn database_url(&self) -> &str {
        self.postgres.url()
    }

    /// The URL of the first nats-server.
    pub fn nats_url(&self) -> String {
        self.nats().url()
    }

    /// The URLs of all nats-servers, as `NATS_URL` takes them.
    pub fn nats_urls(&self) -> String {
        let urls: Vec<_> = self.nats.iter().map(Nats::url).collect();
        urls.join(",")
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
