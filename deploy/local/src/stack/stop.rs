//! Stopping a stack.

use std::iter::once;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use super::Stack;
use crate::children::process::Process;
use crate::servers::postgres::Shutdown;

/// How long a service may take to finish what it is doing.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

impl Stack {
    /// Stops everything in order: the services (SIGTERM), then nats-server and Postgres. Removes a
    /// temporary data folder.
    ///
    /// # Errors
    /// When a service did not end with status 0 within 30 s, after everything was stopped.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let services = self.stop_services().await;
        // What is in a temporary folder goes with it, and need not be written out.
        let (signal, shutdown) = if self.folder.kept {
            (Signal::SIGTERM, Shutdown::Fast)
        } else {
            (Signal::SIGKILL, Shutdown::Immediate)
        };
        let nats = join_all(self.nats.iter_mut().map(|nats| stop_server(nats, signal)));
        let (nats, postgres) = {
            let postgres = async {
                if self.postgres.pid().is_some() {
                    self.postgres.stop(shutdown).await
                } else {
                    Ok(())
                }
            };
            tokio::join!(nats, postgres)
        };
        once(services).chain(nats).chain([postgres]).collect()
    }

    /// Stops all services that run (SIGTERM), at once.
    ///
    /// # Errors
    /// When one did not end with status 0 within 30 s, after all were stopped.
    pub async fn stop_services(&mut self) -> anyhow::Result<()> {
        let stops = join_all(self.services_mut().map(|service| stop_service(service))).await;
        stops.into_iter().collect()
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
            crate::children::process::describe(status),
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
