//! What a test does to the processes, and what it waits for of them.

use std::process::ExitStatus;
use std::time::Duration;

use penstock_local::Shutdown;

use super::World;
use crate::wait::until;

/// How long a process may take to end after SIGTERM. Longer than the services' own `DRAIN_TIMEOUT`.
pub const STOP_DEADLINE: Duration = Duration::from_secs(30);

impl World {
    /// Waits until the first `delivery-worker` has logged something.
    pub async fn until_worker_logs(&self, text: &str) {
        until(&format!("the worker to log {text:?}"), async || {
            let log = self.stack().worker(0).log();
            if log.contains(text) {
                Ok(())
            } else {
                Err(format!("{} lines without it", log.lines().count()))
            }
        })
        .await;
    }

    /// Waits until the first `delivery-worker` has ended, and returns its status.
    pub async fn until_worker_ends(&mut self) -> ExitStatus {
        until("the worker to end", async || {
            let ended = self.stack_mut().worker_mut(0).try_wait();
            ended
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "it runs".to_owned())
        })
        .await
    }

    /// Kills the first `delivery-worker` and starts it again.
    pub async fn restart_worker(&mut self) {
        let worker = self.stack_mut().worker_mut(0);
        worker.kill().await.expect("it runs");
        worker.start().await.expect("a delivery-worker starts again");
    }

    /// Stops everything in order and starts it again on the same data.
    pub async fn restart_everything(&mut self) {
        self.terminate_services().await;
        let stack = self.stack_mut();
        let stopped = stack.nats_mut().terminate(STOP_DEADLINE).await;
        stopped.expect("nats-server stops");
        let postgres = stack.postgres_mut();
        postgres.stop(Shutdown::Fast).await.expect("Postgres stops");
        postgres.start().await.expect("Postgres starts again");
        stack.nats_mut().start().await.expect("nats-server starts again");
        let (ingest, workers) = self.replicas();
        for index in 0..ingest {
            let started = self.stack_mut().ingest_mut(index).start().await;
            started.expect("an ingest-api starts again");
        }
        for index in 0..workers {
            let started = self.stack_mut().worker_mut(index).start().await;
            started.expect("a delivery-worker starts again");
        }
    }

    /// Asks every service that runs to stop.
    ///
    /// # Panics
    /// When one does not end with status 0.
    pub(crate) async fn terminate_services(&mut self) {
        let stopped = self.stack_mut().stop_services().await;
        stopped.expect("services end with status 0 when they are asked to");
    }

    /// How many processes of each service there are, stopped ones included.
    fn replicas(&self) -> (usize, usize) {
        let services = self.stack().services();
        let (ingest, workers): (Vec<_>, Vec<_>) =
            services.partition(|service| service.name().starts_with("ingest-api"));
        (ingest.len(), workers.len())
    }
}
