//! The whole of Penstock on this machine.

mod start;
mod stop;

use std::path::{Path, PathBuf};

use crate::children::host::Host;
use crate::children::ports::PortBook;
use crate::folder::Folder;
use crate::options::StackOptions;
use crate::servers::nats::Nats;
use crate::servers::postgres::Postgres;
use crate::service::Service;
use crate::state::State;

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
