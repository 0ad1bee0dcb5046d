//! The HTTP client that sends webhooks. It resolves names once, judges every address, and dials only those that
//! passed; it follows no redirect and reads no proxy from the environment.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use shared::egress::{EgressConfig, Refused};
use thiserror::Error;

use crate::lookups::{self, Lookups};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection to a receiver is kept.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

const IDLE_PER_HOST: usize = 64;

/// Most headers of an answer. Over HTTP/1 their size is bounded by hyper's read buffer, about 400 KiB; that is what a
/// hostile answer costs at the most, for the time of its attempt.
const MAX_RESPONSE_HEADERS: usize = 100;

/// The same over HTTP/2, in bytes, and what may arrive of an answer, and of all answers of a connection, before it is
/// read. Only the first bytes ever are.
const MAX_RESPONSE_HEADER_BYTES: u32 = 64 * 1024;
const HTTP2_STREAM_WINDOW: u32 = 64 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The client for all deliveries. URLs must have passed [`EgressConfig::check_url`]: the resolver is not asked
/// about hosts that are addresses.
///
/// # Errors
/// When the system has no trusted certificates.
pub fn client(egress: &EgressConfig) -> anyhow::Result<reqwest::Client> {
    reqwest::Client::builder()
        .user_agent(concat!("Penstock/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .http1_max_headers(MAX_RESPONSE_HEADERS)
        .http2_max_header_list_size(MAX_RESPONSE_HEADER_BYTES)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .dns_resolver(Arc::new(GuardedResolver {
            egress: egress.clone(),
            lookups: Arc::new(Lookups::of_system()),
        }))
        .build()
        .context("cannot set up the HTTP client for webhooks")
}

/// A host name that leads to no address.
#[derive(Debug, Error)]
#[error("the host name cannot be resolved: {0}")]
pub struct LookupFailed(Arc<io::Error>);

struct GuardedResolver {
    egress: EgressConfig,
    lookups: Arc<Lookups>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (egress, lookups) = (self.egress.clone(), self.lookups.clone());
        // A connection outlives the attempt that it was begun for, when another one has come free before.
        let org_id = lookups::sender();
        Box::pin(async move {
            let found = lookups.look_up(org_id, name.as_str()).await;
            let found = found.map_err(LookupFailed)?;
            Ok(Box::new(permitted(&egress, found.iter().copied())?.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be dialled; the refusal of the last one when there are none.
fn permitted(
    egress: &EgressConfig,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error + Send + Sync>> {
    let mut refused: Option<Refused> = None;
    let mut addresses = Vec::new();
    for address in found {
        match egress.check_address(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, Some(refused)) => Err(refused.into()),
        (true, None) => Err(LookupFailed(Arc::new(io::ErrorKind::NotFound.into())).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_of_a_mixed_answer_are_dialled() {
        let found = ["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"].map(|text| text.parse().unwrap());
        let permitted = permitted(&EgressConfig::default(), found.into_iter()).unwrap();
        assert_eq!(permitted, ["8.8.8.8:0".parse().unwrap()]);
    }

    #[test]
    fn a_name_with_only_private_addresses_is_refused() {
        let found = ["127.0.0.1:0".parse().unwrap()].into_iter();
        let error = permitted(&EgressConfig::default(), found).unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
    }
}
