//! Stopping a stack.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use nix::sys::signal::Signal;

use super::Stack;
use crate::postgres::Shutdown;
use crate::process::Process;

/// How long a service may take to finish what it is doing.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

impl Stack {
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
