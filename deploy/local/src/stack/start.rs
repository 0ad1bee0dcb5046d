//! Starting a stack, and further services in it.

use futures_util::future::try_join_all;

use super::Stack;
use crate::children::host::Host;
use crate::children::ports::PortBook;
use crate::folder::Folder;
use crate::options::{Replica, StackOptions};
use crate::progress::Progress;
use crate::servers::cluster::Files;
use crate::servers::nats::Nats;
use crate::servers::postgres::Postgres;
use crate::servers::template;
use crate::service::{Kind, Launcher, Service, http_client};
use crate::state::State;

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
        let is_migrated = files.template.is_some() && postgres.is_new();
        if options.migrated && !is_migrated {
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
        if let Some(services) = &self.options.services {
            replica.program.get_or_insert_with(|| services.join(kind.name()));
        }
        let own = std::mem::replace(&mut replica.env, self.service_env(kind));
        replica.env.extend(own);
        // A service takes one or the other.
        if replica.env.iter().any(|(name, _)| name == "SECRETS_KEYS") {
            replica.env.retain(|(name, _)| name != "SECRETS_KEY");
        }
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
}
