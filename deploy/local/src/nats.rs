//! A real nats-server on a loopback port, with the configuration that is shipped for production.

use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream;
use nix::sys::signal::Signal;

use crate::binaries;
use crate::folder::Folder;
use crate::host::Host;
use crate::ports::{Port, PortBook};
use crate::process::Process;
use crate::spawn::Recipe;

/// What `deploy/` gives to every nats-server.
const CONFIGURATION: &str = include_str!("../../nats.conf");

/// The users that `deploy/` suggests, and what each may do.
const PERMISSIONS: &str = include_str!("../../nats-permissions.conf");

/// What their passwords are called there.
const USERS: [(&str, &str); 3] = [
    ("ingest-api", "INGEST_API_NATS_PASSWORD"),
    ("delivery-worker", "DELIVERY_WORKER_NATS_PASSWORD"),
    (OPERATOR, "OPERATOR_NATS_PASSWORD"),
];

/// The user who may do everything.
const OPERATOR: &str = "operator";

/// How long it may take to answer; it reads its streams first.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How many ports are tried at the first start.
const PORT_TRIES: usize = 5;

/// A nats-server with JetStream.
#[derive(Debug)]
pub struct Nats {
    process: Process,
    port: Port,
    monitoring: Port,
    /// Whether clients may say who they are.
    has_users: bool,
}

impl Nats {
    /// Starts the nats-server of a data folder and waits until its JetStream answers. With `has_users` it knows the
    /// users of `deploy/nats-permissions.conf`.
    pub(crate) async fn launch(
        host: &Host,
        folder: &Folder,
        ports: &PortBook,
        has_users: bool,
    ) -> anyhow::Result<Self> {
        let programs = binaries::nats_server(host).await?;
        let configuration = folder.path().join("nats.conf");
        let text = if has_users {
            format!("{CONFIGURATION}\n{PERMISSIONS}\nno_auth_user: {OPERATOR}\n")
        } else {
            CONFIGURATION.to_owned()
        };
        fs::write(&configuration, text).context("cannot write nats.conf")?;
        let mut tries = PORT_TRIES;
        loop {
            let (port, monitoring) = (ports.claim("nats")?, ports.claim("nats monitoring")?);
            let process = Process::new(recipe(
                host,
                folder,
                &programs.folder,
                &configuration,
                &port,
                &monitoring,
            ));
            let mut nats = Self {
                process,
                port,
                monitoring,
                has_users,
            };
            tries -= 1;
            match host.progress.step("starting nats-server", nats.start()).await {
                Ok(()) => return Ok(nats),
                Err(_) if tries > 0 && nats.process.port_was_taken() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts it again on the same ports and the same store, and waits until its JetStream answers.
    ///
    /// # Errors
    /// When it already runs, ends at once, or is not ready within 30 s.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        self.process.spawn()?;
        let url = self.url();
        self.process
            .until_ready(READY_DEADLINE, || look(url.clone()))
            .await
    }

    /// `nats://127.0.0.1:port`: whoever does not say who they are may do everything.
    pub fn url(&self) -> String {
        format!("nats://{}", self.port.address())
    }

    /// The same for one of the users, whose passwords are their names.
    pub(crate) fn url_of(&self, user: &str) -> String {
        if self.has_users {
            format!("nats://{user}:{user}@{}", self.port.address())
        } else {
            self.url()
        }
    }

    /// Where `/healthz`, `/varz` and `/jsz` are.
    pub fn monitoring_url(&self) -> String {
        format!("http://{}", self.monitoring.address())
    }
}

fn recipe(
    host: &Host,
    folder: &Folder,
    programs: &Path,
    configuration: &Path,
    port: &Port,
    monitoring: &Port,
) -> Recipe {
    let (port, monitoring) = (port.number().to_string(), monitoring.number().to_string());
    let args = [
        "--config".as_ref(),
        configuration.as_os_str(),
        "--addr".as_ref(),
        "127.0.0.1".as_ref(),
        "--port".as_ref(),
        port.as_ref(),
        "--http_port".as_ref(),
        monitoring.as_ref(),
        "--store_dir".as_ref(),
        folder.path().join("nats").as_os_str(),
    ]
    .map(ToOwned::to_owned)
    .to_vec();
    Recipe {
        name: "nats-server".to_owned(),
        launcher: host.program.clone(),
        command: programs.join("nats-server"),
        args,
        // Nobody reads them in a configuration without users.
        env: USERS
            .map(|(user, variable)| (variable.to_owned(), user.to_owned()))
            .to_vec(),
        input: None,
        user: None,
        folder: folder.path().to_owned(),
        log: folder.logs().join("nats-server.log"),
        last_signal: Signal::SIGKILL,
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
