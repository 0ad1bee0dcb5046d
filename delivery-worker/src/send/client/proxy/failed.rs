//! Why there is no connection through the proxy.

use std::error::Error;
use std::io;

use thiserror::Error;

/// Why there is no connection through the proxy.
#[derive(Debug, Error)]
pub(crate) enum ProxyFailed {
    /// The proxy is away.
    #[error("the egress proxy cannot be reached")]
    Away(#[source] Box<dyn Error + Send + Sync>),
    /// The proxy does not work, or not with these settings.
    #[error("the egress proxy {0}")]
    Own(String),
    /// The proxy lets nobody go there.
    #[error("the egress proxy does not let webhooks go there")]
    Denied,
    /// The proxy has no connection to the receiver.
    #[error("the egress proxy cannot connect: {0}")]
    Unreachable(String),
    /// The proxy has hung up without an answer: by its own fault or by the receiver's.
    #[error("the egress proxy has hung up")]
    HungUp(#[source] io::Error),
}

impl ProxyFailed {
    /// Whether it is this deployment's fault and not the receiver's.
    pub(crate) fn is_own(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Own(_))
    }
}
