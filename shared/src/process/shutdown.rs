//! Starting and stopping: the runtime, the signals, and tasks that cannot die unnoticed.

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use futures_util::FutureExt as _;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::process::config::integer_within;
use crate::process::output::complain;
use crate::process::panics::panic_text;
use crate::process::telemetry::log_levels;
use crate::process::telemetry::{LogWriter, TelemetryConfig};

/// The threads that a service runs on.
#[derive(Args, Clone, Copy, Debug)]
pub struct RuntimeConfig {
    /// Threads that do the work, 0 to 1024; 0 is one for every two cores. The other half is for the kernel's share of network
    /// and disk, and for neighbours.
    #[arg(long, env, value_name = "WORKER_THREADS", default_value_t = 0,
          value_parser = integer_within::<u16>(0..=1_024))]
    pub worker_threads: u16,
}

impl RuntimeConfig {
    /// As by default.
    pub const SHIPPED: Self = Self { worker_threads: 0 };

    /// The runtime.
    ///
    /// # Errors
    /// When the operating system gives no threads.
    pub fn build(self) -> anyhow::Result<Runtime> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = match self.worker_threads {
            0 => (cores / 2).max(1),
            threads => threads.into(),
        };
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .enable_all()
            .build()
            .context("cannot start the async runtime")
    }
}

/// How long the last log lines may take to be written, and how long threads that still run at the end are waited for.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);
const LAST_WORK_WITHIN: Duration = Duration::from_secs(1);

/// The status of a process that a second signal has ended.
const ENDED_AT_ONCE: i32 = 130;

/// Runs a service to its end: telemetry, a runtime, and a stop token that SIGTERM or SIGINT cancels. A second
/// signal ends the process at once.
pub fn run_service<F>(
    telemetry: &TelemetryConfig,
    runtime: RuntimeConfig,
    service: impl FnOnce(CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    let _last_lines = match telemetry.init_logging() {
        Ok(log) => LastLines(log),
        Err(error) => {
            complain(&format!("{error:#}"));
            return ExitCode::FAILURE;
        }
    };
    crate::process::descriptors::raise();
    let outcome = runtime.build().and_then(|runtime| {
        let outcome = runtime.block_on(async {
            let stop = CancellationToken::new();
            cancel_on_signal(stop.clone())?;
            service(stop).await
        });
        // A look-up of a name may hang for long, and a thread with it.
        runtime.shutdown_timeout(LAST_WORK_WITHIN);
        outcome
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

/// Writes the last log lines before the process ends, also by a panic.
struct LastLines(LogWriter);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush(LAST_LINES_WITHIN);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "it ends with the process and cannot fail"
)]
fn cancel_on_signal(stop: CancellationToken) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    end_at_second_signal().context("cannot listen for a second signal")?;
    tokio::spawn(log_levels::step_on_signals()?);
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        stop.cancel();
        tracing::info!(signal = name, "stopping");
    });
    Ok(())
}

/// It runs in the signal's handler, so that it also ends a process whose threads all hang.
fn end_at_second_signal() -> std::io::Result<()> {
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The order in which they are registered is the one in which they run.
        flag::register_conditional_shutdown(signal, ENDED_AT_ONCE, is_second.clone())?;
        flag::register(signal, is_second.clone())?;
    }
    Ok(())
}

/// The tasks of one service. A long-lived task that ends before the stop, by an error or a panic, stops the
/// service; [`Tasks::finish`] then returns its error.
#[derive(Clone, Debug)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Tasks {
    /// A service without tasks. They must end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self {
            tracker: TaskTracker::new(),
            stop,
            failure: Arc::default(),
        }
    }

    /// Cancelled when the service is to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Starts a task that must live until the stop.
    pub fn spawn_long_lived(
        &self,
        name: &'static str,
        task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
    ) {
        let this = self.clone();
        self.tracker.spawn(async move {
            let error = match AssertUnwindSafe(task).catch_unwind().await {
                Ok(Ok(())) if this.stop.is_cancelled() => return,
                Ok(Ok(())) => anyhow!("task `{name}` ended before the stop"),
                Ok(Err(error)) => error.context(format!("task `{name}` failed")),
                Err(panic) => anyhow!("task `{name}` panicked: {}", panic_text(&*panic)),
            };
            let text = format!("{error:#}");
            this.failure
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert(error);
            this.stop.cancel();
            tracing::error!(error = text, "a task died, stopping the service");
        });
    }

    /// Starts a task that ends by itself. Its panic is logged; the service goes on.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                tracing::error!(task = name, panic = panic_text(&*panic), "a task panicked");
                metrics::counter!("penstock_task_panics_total", "task" => name).increment(1);
            }
        });
    }

    /// Waits for the stop and then, for at most `drain`, for every task.
    ///
    /// # Errors
    /// The error of the task that stopped the service.
    pub async fn finish(self, drain: Duration) -> anyhow::Result<()> {
        self.stop.cancelled().await;
        self.tracker.close();
        if tokio::time::timeout(drain, self.tracker.wait()).await.is_err() {
            tracing::warn!(
                left = self.tracker.len(),
                ?drain,
                "stopping although tasks are still running"
            );
        }
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_long_lived_task_that_dies_stops_the_service_with_its_error() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn_long_lived("waiter", {
            let stop = tasks.stop().clone();
            async move {
                stop.cancelled().await;
                Ok(())
            }
        });
        tasks.spawn_long_lived("broken", async { panic!("out of luck") });
        let error = tasks.finish(Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.to_string(), "task `broken` panicked: out of luck");
    }

    #[tokio::test]
    async fn a_short_task_that_panics_does_not_stop_the_service() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("short", async { panic!("out of luck") });
        tasks.stop().cancel();
        tasks.finish(Duration::from_secs(5)).await.unwrap();
    }
}
