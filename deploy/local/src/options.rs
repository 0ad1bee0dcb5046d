//! The options of a stack.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::folder::DataFolder;

/// When a nats-server brings messages to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NatsSync {
    /// Before it acknowledges them, as shipped.
    #[default]
    Always,
    /// Every two minutes, nats-server's own default: a power loss takes what was acknowledged since. For
    /// comparisons only.
    Lazy,
}

/// The options of a stack.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where its data is.
    pub data: DataFolder,
    /// How many `ingest-api` processes.
    pub ingest: usize,
    /// How many `delivery-worker` processes.
    pub workers: usize,
    /// A program whose `main` is [`crate::main`]; this program if absent.
    pub program: Option<PathBuf>,
    /// The folder of the programs `ingest-api` and `delivery-worker`, such as those of an optimised build; `program` is both
    /// if absent.
    pub services: Option<PathBuf>,
    /// Environment variables of every `ingest-api`; they win over those that the stack sets.
    pub ingest_env: Vec<(String, String)>,
    /// Environment variables of every `delivery-worker`; they win over those that the stack sets.
    pub worker_env: Vec<(String, String)>,
    /// Whether the database is brought to this build's schema before the services start.
    pub migrated: bool,
    /// The folder in which Postgres's files are, which its user must be able to write to; the data folder if absent.
    pub postgres_store: Option<PathBuf>,
    /// The nats-server, or the cluster of them.
    pub nats: NatsOptions,
    /// A command that starts every `delivery-worker`: the program and its arguments are appended to it. Empty for none.
    pub worker_wrapper: Vec<String>,
    /// The port of the first `ingest-api`, if it is free. Any other port if not, or if absent.
    pub api_port: Option<u16>,
    /// Whether steps that take more than a second are announced on standard error.
    pub progress: bool,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            data: DataFolder::Temporary,
            ingest: 1,
            workers: 1,
            program: None,
            services: None,
            ingest_env: Vec::new(),
            worker_env: Vec::new(),
            migrated: true,
            postgres_store: None,
            nats: NatsOptions::default(),
            worker_wrapper: Vec::new(),
            api_port: None,
            progress: false,
        }
    }
}

/// How NATS is run.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// How many nats-servers. More than one form a cluster; its streams are replicated as
    /// `EVENT_STREAM_REPLICAS` of the `ingest-api`s says.
    pub nodes: usize,
    /// The folder in which each server has a folder for its streams; the data folder if absent.
    pub store: Option<PathBuf>,
    /// When it brings messages to the disk.
    pub sync: NatsSync,
    /// Whether each service is a user of its own, who may do what `deploy/nats-permissions.conf` says.
    pub users: bool,
    /// The network namespace and the address in it of each server; all are on 127.0.0.1 in this one if empty.
    pub namespaces: Vec<Namespace>,
}

impl Default for NatsOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            store: None,
            sync: NatsSync::default(),
            users: false,
            namespaces: Vec::new(),
        }
    }
}

/// A network namespace that exists, and that this process can enter and reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// As `ip netns` knows it.
    pub name: String,
    /// An address in it.
    pub address: IpAddr,
}

/// The options of one replica of a service that differs from the others.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// Environment variables; they win over all others.
    pub env: Vec<(String, String)>,
    /// The service's own program, such as that of another release; the one of this build if absent.
    pub program: Option<PathBuf>,
}

impl Replica {
    /// A replica of this build with one more variable.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
}
