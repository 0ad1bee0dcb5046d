//! A real Postgres on a loopback port.

mod backup;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::Signal;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use self::backup::Place;
use crate::children::host::Host;
use crate::children::ports::{PORT_TRIES, Port, PortBook};
use crate::children::process::{Process, READY_DEADLINE};
use crate::children::spawn::Recipe;
use crate::folder::Folder;
use crate::servers::binaries;
use crate::servers::cluster::{Cluster, Files, NAME};

/// How long it may take to write everything out and end.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// Enough for a dozen services with a pool each.
const MAX_CONNECTIONS: &str = "max_connections=200";

/// How Postgres is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Cuts all connections, rolls back what they were doing, writes everything out.
    Fast,
    /// Ends at once, as in a crash: the next start replays the log.
    Immediate,
}

/// A Postgres server. Its [`Process`] is the server's first process: a signal sent to it does not
/// reach the processes of the connections, a kill ends them all.
pub struct Postgres {
    process: Process,
    port: Port,
    url: String,
    new: bool,
    place: Place,
}

impl Postgres {
    /// Starts the Postgres of a data folder and waits until it accepts connections.
    pub(crate) async fn launch(
        host: &Host,
        folder: &Folder,
        ports: &PortBook,
        files: &Files,
    ) -> anyhow::Result<Self> {
        let programs = binaries::postgres(host).await?;
        let cluster = Cluster::open(host, programs, folder, files).await?;
        let password = cluster.password()?;
        let place = Place {
            host: host.clone(),
            server: programs.folder.join("postgres"),
            data: cluster.data(),
            logs: folder.logs(),
        };
        let mut tries = PORT_TRIES;
        loop {
            let port = ports.claim("postgres")?;
            let url = format!("postgres://{NAME}:{password}@{}/{NAME}", port.address());
            let process = Process::new(recipe(host, folder, programs, &cluster, &port));
            let mut postgres = Self {
                process,
                port,
                url,
                new: cluster.new,
                place: place.clone(),
            };
            tries -= 1;
            match host.progress.step("starting postgres", postgres.start()).await {
                Ok(()) => return Ok(postgres),
                Err(_) if tries > 0 && postgres.process.port_was_taken() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts it again on the same port and the same data, and waits until it accepts connections.
    ///
    /// # Errors
    /// When it already runs, ends at once, or is not ready within 30 s.
    pub async fn start(&mut self) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + READY_DEADLINE;
        loop {
            self.process.spawn()?;
            let options: PgConnectOptions = self.url.parse().context("a wrong database URL was made")?;
            let ready = self.process.until_ready(|| look(options.clone())).await;
            // After a kill the processes of the connections need a moment to notice, and until the last
            // one is gone a new server refuses to touch their data.
            let in_the_way = ready.is_err() && self.process.pid().is_none() && self.predecessor_lives();
            if !in_the_way || tokio::time::Instant::now() > end {
                return ready;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn stop(&mut self, how: Shutdown) -> anyhow::Result<()> {
        let signal = match how {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        };
        self.process.stop_with(signal, STOP_DEADLINE).await?;
        Ok(())
    }

    /// Stops all its processes where they are (SIGSTOP): it holds its connections and answers nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process.signal_tree(Signal::SIGSTOP)
    }

    /// Lets all its processes go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process.signal_tree(Signal::SIGCONT)
    }

    /// Brings the database to this build's schema.
    pub(crate) async fn migrate(&self) -> anyhow::Result<()> {
        let pool = self.pool().await?;
        shared::db::migrate(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Removes the databases that nobody uses: 600 of the 1 600 files that a stack copies.
    pub(crate) async fn drop_other_databases(&self) -> anyhow::Result<()> {
        let pool = self.pool().await?;
        for statement in [
            "alter database template0 is_template false",
            "drop database template0",
            "drop database postgres",
        ] {
            let done = sqlx::query(statement).execute(&pool).await;
            done.with_context(|| format!("cannot {statement}"))?;
        }
        pool.close().await;
        Ok(())
    }

    /// Makes the partitions that the first worker makes at its start.
    #[cfg(feature = "services")]
    pub(crate) async fn make_partitions(&self) -> anyhow::Result<()> {
        let pool = self.pool().await?;
        delivery_worker::make_partitions(&pool)
            .await
            .context("cannot make partitions")?;
        pool.close().await;
        Ok(())
    }

    async fn pool(&self) -> Result<PgPool, sqlx::Error> {
        PgPoolOptions::new().max_connections(1).connect(&self.url).await
    }

    /// The database, with user and password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Whether the database was empty when this stack started.
    pub(crate) fn is_new(&self) -> bool {
        self.new
    }

    fn predecessor_lives(&self) -> bool {
        let tail = self.process.tail();
        let last_line = tail.lines().rev().find(|line| line.contains("FATAL"));
        last_line.is_some_and(|line| line.contains("shared memory block") || line.contains("postmaster.pid"))
    }
}

fn recipe(
    host: &Host,
    folder: &Folder,
    programs: &binaries::Found,
    cluster: &Cluster,
    port: &Port,
) -> Recipe {
    let settings = [
        "listen_addresses=127.0.0.1".to_owned(),
        format!("port={}", port.number()),
        // One address to reach it by, and no path that could be too long for a socket.
        "unix_socket_directories=".to_owned(),
        MAX_CONNECTIONS.to_owned(),
    ];
    let mut args = vec!["-D".into(), cluster.data().into()];
    args.extend(
        settings
            .into_iter()
            .flat_map(|setting| ["-c".into(), setting.into()]),
    );
    Recipe {
        name: "postgres".to_owned(),
        launcher: host.program.clone(),
        command: programs.folder.join("postgres"),
        args,
        env: Vec::new(),
        input: None,
        user: host.user_name(),
        folder: folder.path().to_owned(),
        log: folder.logs().join("postgres.log"),
        // Immediate shutdown: unlike SIGKILL it takes the processes of the connections along at once.
        output: None,
        last_signal: Signal::SIGQUIT,
    }
}

/// A connection that was accepted: while it starts or recovers, Postgres answers but refuses.
async fn look(options: PgConnectOptions) -> anyhow::Result<()> {
    let connection: PgConnection = options.connect().await?;
    connection.close().await?;
    Ok(())
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the URL: it holds the password.
        f.debug_struct("Postgres")
            .field("process", &self.process)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Deref for Postgres {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}
