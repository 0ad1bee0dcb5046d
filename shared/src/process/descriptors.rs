//! Descriptors: each connection takes one. The operating system lets a process raise its own limit as far as the hard one.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// No program here needs more, and some programs go through all descriptors that they may have.
const ENOUGH: u64 = 1 << 20;

/// Raises the limit as far as the operating system allows, and logs it.
pub fn raise() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let limit = hard.min(ENOUGH).max(soft);
        setrlimit(Resource::RLIMIT_NOFILE, limit, hard)?;
        Ok((soft, limit))
    });
    match raised {
        Ok((before, limit)) => tracing::info!(before, limit, "limit of open descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open descriptors"),
    }
}

/// How many may be open at once.
pub fn limit() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}
