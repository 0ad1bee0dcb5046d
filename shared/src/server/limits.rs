//! How many connections a socket may have, and how long each may take.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::sync::Semaphore;

use crate::process::config::{integer_from, nonzero_duration};

/// How long a client may take for an answer. Longer than connections may be idle, so that a slow client has more time than
/// one that does nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Limits on connections.
#[derive(Args, Clone, Debug)]
pub struct HttpServerConfig {
    /// Connections served at once, at least 1; further ones wait in the listen queue.
    #[arg(long, env, value_name = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = integer_from::<u32>(1))]
    pub max_connections: u32,

    /// How long a connection may take to send the headers of a request, and how long it may take nothing of an answer, at least
    /// 1ms.
    #[arg(long, env, value_name = "HEADER_TIMEOUT", default_value = "10s", value_parser = nonzero_duration)]
    pub header_timeout: Duration,

    /// How long a connection may stay idle between two requests. Longer than a load balancer keeps its own, so that it is
    /// the one that closes them.
    #[arg(long, env, value_name = "IDLE_TIMEOUT", default_value = "75s", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,

    /// How long a client may take for an answer of more than 4 KiB. No setting.
    #[arg(skip = ANSWER_TIMEOUT)]
    pub answer_timeout: Duration,
}

impl HttpServerConfig {
    /// For sockets that operators use, and no producers.
    pub fn for_operations() -> Self {
        Self {
            max_connections: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            answer_timeout: ANSWER_TIMEOUT,
        }
    }
}

/// The limits of one socket.
#[derive(Clone, Debug)]
pub struct Limits {
    pub(super) config: HttpServerConfig,
    pub(super) slots: Slots,
}

impl Limits {
    /// As configured, with all connections free.
    pub fn new(config: HttpServerConfig) -> Self {
        let slots = Slots {
            free: Arc::new(Semaphore::new(config.max_connections as usize)),
            most: config.max_connections,
        };
        Self { config, slots }
    }

    /// The connections.
    pub fn slots(&self) -> Slots {
        self.slots.clone()
    }
}

/// The connections of one socket; clones are the same.
#[derive(Clone, Debug)]
pub struct Slots {
    pub(super) free: Arc<Semaphore>,
    most: u32,
}

impl Slots {
    /// How many connections there are.
    pub fn open(&self) -> u32 {
        let free = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        self.most.saturating_sub(free)
    }

    /// How many there may be.
    pub fn most(&self) -> u32 {
        self.most
    }

    /// How many of them are taken, from 0 to 1.
    pub fn used(&self) -> f64 {
        f64::from(self.open()) / f64::from(self.most)
    }
}
