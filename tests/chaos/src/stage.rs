//! How much of a fault is run.

use std::path::PathBuf;
use std::time::Duration;

use e2e::{LOG, Setup};

/// What makes a run end soon after its fault: no wait between attempts is long.
const RETRY_MAX: &str = "2s";

/// How long frames and deliveries wait for a worker that does not get on: as shipped.
const PATIENCE: &str = "10s";

/// How a fault is run.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The program that starts the processes of a stack: this package's `chaos`.
    pub program: PathBuf,
    /// A few seconds of each fault, at a rate that a debug build on a busy machine can take.
    pub quick: bool,
    /// The folder with the previous release's `ingest-api` and `delivery-worker`.
    pub previous: Option<PathBuf>,
    /// How often the power fails, if it is not as often as the form of the fault says.
    pub cuts: Option<usize>,
    /// How long a soak lasts.
    pub soak: Duration,
}

impl Stage {
    /// The bounded form, for tests.
    pub fn quick(program: &str) -> Self {
        Self {
            program: program.into(),
            quick: true,
            previous: None,
            cuts: None,
            soak: Duration::from_secs(10),
        }
    }

    /// Two replicas of each service.
    pub fn setup(&self) -> Setup {
        Setup::new(&self.program)
            .replicas(2, 2)
            .worker_env("RETRY_MAX", RETRY_MAX)
            .worker_env("RUST_LOG", LOG)
            .ingest_env("RUST_LOG", LOG)
    }

    /// The same where nothing may come twice. Nobody takes a worker's frames and deliveries from it because its machine, Postgres
    /// or NATS stands still for a moment.
    pub fn patient_setup(&self) -> Setup {
        let setup = self.setup().worker_env("INTAKE_ACK_WAIT", PATIENCE);
        setup.worker_env("LEASE_MARGIN", PATIENCE)
    }

    /// Events a second.
    pub(crate) fn rate(&self) -> u32 {
        self.pick(500, 100)
    }

    /// One of two sizes of something.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// A bound on a time. A test shares the machine with others and is built without optimisation: what is bounded
    /// is then that it ends, not how soon.
    pub(crate) fn bound(&self, full: Duration) -> Duration {
        full * self.pick(1, 4)
    }
}
