//! A stack of its own for one test, and what a test does and sees there.

pub(crate) mod processes;
mod finish;
pub(crate) mod api;
pub(crate) mod tables;
pub(crate) mod stream;
mod metrics;
pub(crate) mod fate;

use std::path::PathBuf;

use penstock_local::{NatsOptions, Stack, StackOptions};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::contract::{Client, checked};
use crate::servers::receiver::Receiver;

/// What makes a test fast: short waits between attempts and short leases. Everything else is as shipped.
const WORKER_ENV: &[(&str, &str)] = &[
    ("RETRY_INITIAL", "200ms"),
    ("RETRY_FACTOR", "4"),
    ("LEASE_MARGIN", "2s"),
    ("INTAKE_ACK_WAIT", "2s"),
    // A machine that stands still for a moment lets whatever is in flight fail together.
    ("CIRCUIT_PAUSE", "2s"),
];

/// Names a folder with the programs of both services, built from this source in another way, for all tests to start.
const SERVICES_VARIABLE: &str = "PENSTOCK_TEST_SERVICES";

/// How many lines of each log a failing test prints.
const TAIL_LINES: usize = 30;

/// What a [`World`] is made of: one replica of each service unless told otherwise.
#[derive(Debug)]
pub struct Setup(StackOptions);

impl Setup {
    /// `program` is the path of this package's `penstock-stack`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let worker_env = WORKER_ENV
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()));
        Self(StackOptions {
            program: Some(program.into()),
            services: std::env::var_os(SERVICES_VARIABLE).map(PathBuf::from),
            worker_env: worker_env.collect(),
            ..StackOptions::default()
        })
    }

    /// Sets how many processes of each service there are.
    #[must_use]
    pub fn replicas(mut self, ingest: usize, workers: usize) -> Self {
        (self.0.ingest, self.0.workers) = (ingest, workers);
        self
    }

    /// Sets an environment variable of every `ingest-api`.
    #[must_use]
    pub fn ingest_env(mut self, name: &str, value: &str) -> Self {
        self.0.ingest_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves the database without tables.
    #[must_use]
    pub fn not_migrated(mut self) -> Self {
        self.0.migrated = false;
        self
    }

    /// Sets the folder in which Postgres's files are.
    #[must_use]
    pub fn postgres_store(mut self, folder: PathBuf) -> Self {
        self.0.postgres_store = Some(folder);
        self
    }

    /// Sets how NATS is run.
    #[must_use]
    pub fn nats(mut self, nats: NatsOptions) -> Self {
        self.0.nats = nats;
        self
    }

    /// Sets an environment variable of every `delivery-worker`.
    #[must_use]
    pub fn worker_env(mut self, name: &str, value: &str) -> Self {
        self.0.worker_env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Lets each service be a NATS user of its own, with the permissions that `deploy/` suggests.
    #[must_use]
    pub fn nats_users(mut self) -> Self {
        self.0.nats.users = true;
        self
    }

    /// Sets the command that starts every `delivery-worker`, to which its own command line is appended.
    #[must_use]
    pub fn worker_wrapper(mut self, words: &[&str]) -> Self {
        self.0.worker_wrapper = words.iter().map(ToString::to_string).collect();
        self
    }

    /// Starts everything and waits until everything is ready.
    pub async fn start(self) -> World {
        // The process's TLS implementation, which the HTTP client asks for although it only speaks plain HTTP
        // here. An error says that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(crate::wait::DEADLINE)
            .tls_certs_only([])
            .build()
            .expect("an HTTP client without certificates can always be made");
        let stack = match Box::pin(Stack::start(self.0)).await {
            Ok(stack) => stack,
            Err(error) => panic!("the stack did not start: {error:#}"),
        };
        let database = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(stack.database_url())
            .expect("the stack's database URL is one");
        World {
            stack: Some(stack),
            http: checked(http),
            database,
            receivers: Vec::new(),
            tolerated: Vec::new(),
        }
    }
}

/// A whole Penstock, the receivers of its webhooks, and a look into its tables.
///
/// Every test ends with [`World::finish`]; dropping a world in another way than by a panic is a failure.
#[derive(Debug)]
pub struct World {
    // None once it is finished.
    stack: Option<Stack>,
    pub(crate) http: Client,
    pub(crate) database: PgPool,
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) tolerated: Vec<&'static str>,
}

impl World {
    /// The processes.
    pub fn stack(&self) -> &Stack {
        self.stack
            .as_ref()
            .expect("a world has its stack until it is finished")
    }

    /// The processes, to be killed and started again.
    pub fn stack_mut(&mut self) -> &mut Stack {
        self.stack
            .as_mut()
            .expect("a world has its stack until it is finished")
    }

    /// A receiver of webhooks that answers 204 to everything.
    pub async fn receiver(&mut self) -> Receiver {
        let receiver = Receiver::start().await;
        self.receivers.push(receiver.clone());
        receiver
    }

    /// Says that log lines with `ERROR` that contain `text` are expected in this test.
    pub fn tolerate(&mut self, text: &'static str) {
        self.tolerated.push(text);
    }

    pub(crate) fn take_stack(&mut self) -> Option<Stack> {
        self.stack.take()
    }

    fn print_logs(stack: &Stack) {
        let nats = stack.nats_nodes().iter().map(|nats| (nats.name(), nats.log()));
        let postgres = (stack.postgres().name(), stack.postgres().log());
        let services = stack.services().map(|service| (service.name(), service.log()));
        for (name, log) in nats.chain([postgres]).chain(services) {
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the end of the log of {name}:");
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(stack) = &self.stack else { return };
        if std::thread::panicking() {
            Self::print_logs(stack);
        } else {
            panic!("a test ended without World::finish");
        }
    }
}
