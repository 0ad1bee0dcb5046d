//! A real nats-server, or a cluster of them, with the configuration that is shipped for production.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use async_nats::jetstream;
use futures_util::future::try_join_all;
use nix::sys::signal::Signal;

use crate::children::host::Host;
use crate::children::ports::{PORT_TRIES, Port, PortBook};
use crate::children::process::Process;
use crate::children::spawn::Recipe;
use crate::folder::Folder;
use crate::options::{Namespace, NatsOptions, NatsSync};
use crate::servers::binaries;

/// The configuration in `deploy/` for every nats-server.
const CONFIGURATION: &str = include_str!("../../../nats.conf");

/// The line of it that [`NatsSync::Lazy`] changes.
const SYNC_ALWAYS: &str = "sync_interval: always";

/// The users that `deploy/` suggests, and what each may do.
const PERMISSIONS: &str = include_str!("../../../nats-permissions.conf");

/// The names of their passwords there.
const USERS: [(&str, &str); 3] = [
    ("ingest-api", "INGEST_API_NATS_PASSWORD"),
    ("delivery-worker", "DELIVERY_WORKER_NATS_PASSWORD"),
    (OPERATOR, "OPERATOR_NATS_PASSWORD"),
];

/// The user who may do everything.
const OPERATOR: &str = "operator";

/// Where `ip netns` has its namespaces.
const NAMESPACES: &str = "/run/netns";

/// A nats-server with JetStream.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    address: IpAddr,
    port: Port,
    monitoring: Port,
    /// Whether clients may say who they are.
    has_users: bool,
    /// Held while any server of the cluster lives.
    _routes: Arc<[Port]>,
}

/// The options of all servers of a stack.
struct Launcher<'a> {
    host: &'a Host,
    folder: &'a Folder,
    ports: &'a PortBook,
    options: &'a NatsOptions,
    programs: PathBuf,
    configuration: PathBuf,
    /// Where the servers of a cluster find each other; empty for a single one.
    routes: Arc<[Port]>,
}

impl Nats {
    /// Starts the nats-servers of a data folder and waits until the JetStream of each answers.
    pub(crate) async fn launch(
        host: &Host,
        folder: &Folder,
        ports: &PortBook,
        options: &NatsOptions,
    ) -> anyhow::Result<Vec<Self>> {
        let programs = binaries::nats_server(host).await?.folder.clone();
        let configuration = folder.path().join("nats.conf");
        fs::write(&configuration, configuration_text(options)).context("cannot write nats.conf")?;
        let clustered = (0..options.nodes).filter(|_| options.nodes > 1);
        let routes = clustered.map(|index| ports.claim(&format!("nats route {index}")));
        let launcher = Launcher {
            host,
            folder,
            ports,
            options,
            programs,
            configuration,
            routes: routes.collect::<anyhow::Result<_>>()?,
        };
        try_join_all((0..options.nodes).map(|index| launcher.launch(index))).await
    }

    /// Starts it again on the same ports and the same store, and waits until its JetStream answers.
    ///
    /// # Errors
    /// When it already runs, ends at once, or is not ready within 30 s.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.process.spawn()?;
        let url = self.url();
        self.process.until_ready(|| look(url.clone())).await
    }

    /// `nats://address:port`, without a user: such a client may do everything.
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.address, self.port.number())
    }

    /// The same for one of the users, whose passwords are their names.
    pub(crate) fn url_of(&self, user: &str) -> String {
        if self.has_users {
            format!("nats://{user}:{user}@{}:{}", self.address, self.port.number())
        } else {
            self.url()
        }
    }

    /// Where `/healthz`, `/varz` and `/jsz` are.
    pub fn monitoring_url(&self) -> String {
        format!("http://{}:{}", self.address, self.monitoring.number())
    }
}

impl Launcher<'_> {
    async fn launch(&self, index: usize) -> anyhow::Result<Nats> {
        let name = self.name(index);
        let mut tries = PORT_TRIES;
        loop {
            let port = self.ports.claim(&name)?;
            let monitoring = self.ports.claim(&format!("{name} monitoring"))?;
            let mut nats = Nats {
                process: Process::new(self.recipe(index, &port, &monitoring)),
                address: self.address(index),
                port,
                monitoring,
                has_users: self.options.users,
                _routes: self.routes.clone(),
            };
            tries -= 1;
            let starting = format!("starting {}", nats.process.name());
            match self.host.progress.step(&starting, nats.start()).await {
                Ok(()) => return Ok(nats),
                Err(_) if tries > 0 && nats.process.port_was_taken() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The name under which a server's ports are remembered.
    fn name(&self, index: usize) -> String {
        if self.options.nodes == 1 {
            "nats".to_owned()
        } else {
            format!("nats {index}")
        }
    }

    fn address(&self, index: usize) -> IpAddr {
        let namespace = self.options.namespaces.get(index);
        namespace.map_or(Ipv4Addr::LOCALHOST.into(), |namespace| namespace.address)
    }

    fn recipe(&self, index: usize, port: &Port, monitoring: &Port) -> Recipe {
        let name = self.name(index).replacen("nats", "nats-server", 1);
        let program = self.programs.join("nats-server");
        let mut words: Vec<OsString> = match self.options.namespaces.get(index) {
            // Not by `ip netns exec`: that copies this machine's mounts, and a file system that is unmounted here would live on
            // in the copy.
            Some(Namespace { name, .. }) => {
                vec!["nsenter".into(), format!("--net={NAMESPACES}/{name}").into()]
            }
            None => Vec::new(),
        };
        words.push(program.into());
        words.extend(self.args(index, port, monitoring));
        let command = words.remove(0).into();
        Recipe {
            log: self.folder.logs().join(format!("{}.log", name.replace(' ', "-"))),
            name,
            launcher: self.host.program.clone(),
            command,
            args: words,
            // Nobody reads them in a configuration without users.
            env: USERS
                .map(|(user, variable)| (variable.to_owned(), user.to_owned()))
                .to_vec(),
            input: None,
            user: None,
            folder: self.folder.path().to_owned(),
            output: None,
            last_signal: Signal::SIGKILL,
        }
    }

    fn args(&self, index: usize, port: &Port, monitoring: &Port) -> Vec<OsString> {
        let folder = self.name(index).replace(' ', "-");
        let store = self.options.store.as_deref().unwrap_or(self.folder.path());
        let mut args = vec!["--config".into(), self.configuration.clone().into()];
        args.extend(["--store_dir".into(), store.join(folder).into()]);
        let mut set = |flag: &str, value: String| args.extend([flag.into(), value.into()]);
        set("--addr", self.address(index).to_string());
        set("--port", port.number().to_string());
        set("--http_port", monitoring.number().to_string());
        let route = |index: usize| format!("nats://{}:{}", self.address(index), self.routes[index].number());
        if !self.routes.is_empty() {
            let routes: Vec<_> = (0..self.routes.len()).map(route).collect();
            set("--name", format!("node-{index}"));
            set("--cluster_name", "penstock".to_owned());
            set("--cluster", route(index));
            set("--routes", routes.join(","));
        }
        args
    }
}

fn configuration_text(options: &NatsOptions) -> String {
    let text = match options.sync {
        NatsSync::Always => CONFIGURATION.to_owned(),
        NatsSync::Lazy => {
            assert!(
                CONFIGURATION.contains(SYNC_ALWAYS),
                "what is shipped syncs always"
            );
            CONFIGURATION.replace(SYNC_ALWAYS, "sync_interval: 2m")
        }
    };
    if options.users {
        format!("{text}\n{PERMISSIONS}\nno_auth_user: {OPERATOR}\n")
    } else {
        text
    }
}

async fn look(url: String) -> anyhow::Result<()> {
    let client = async_nats::connect(url).await?;
    jetstream::new(client).query_account().await?;
    Ok(())
}

impl Deref for Nats {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Nats {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
