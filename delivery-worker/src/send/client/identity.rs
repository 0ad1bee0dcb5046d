//! The client certificate that an endpoint's connections show.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use shared::credentials::certificate::ReadCertificate;
use tokio_rustls::TlsConnector;

/// The number of the next identity of this process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A client certificate. Connections that show it carry no requests of others.
pub(crate) struct Identity {
    /// Tells its connections from those of others.
    pub(super) number: u64,
    pub(super) certificate: ReadCertificate,
    /// Made when it is first used.
    pub(super) tls: OnceLock<TlsConnector>,
}

impl Identity {
    /// For an endpoint.
    pub(crate) fn new(certificate: ReadCertificate) -> Self {
        Self {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            certificate,
            tls: OnceLock::new(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}
