//! The two services as hidden subcommands, each in the process that is started for it.

use std::process::ExitCode;

/// Becomes one of the services, configured by the environment.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ServiceCommand {
    /// Runs ingest-api.
    #[command(hide = true)]
    IngestApi(Box<ingest_api::Config>),
    /// Runs delivery-worker.
    #[command(hide = true)]
    DeliveryWorker(Box<delivery_worker::Config>),
}

impl ServiceCommand {
    pub(crate) fn run(self) -> ExitCode {
        match self {
            Self::IngestApi(config) => ingest_api::start(*config),
            Self::DeliveryWorker(config) => delivery_worker::start(*config),
        }
    }
}
