//! Endpoints that are opened when they are first used: their secrets, and what else is made ready for sending.
//!
//! Until then an endpoint is its row, which takes less memory, and no time when a worker starts with a hundred thousand of them.
//! One that is not used stays so.
//!
//! An endpoint that cannot be used, because a secret does not open for example, is logged when it is opened, and its deliveries
//! wait in the table for a worker that can. That a key is missing must be known before the first event comes: the first
//! endpoint under each key is opened at once. So is a changed endpoint that was in use; it goes on with its permits, tokens and
//! connections.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use shared::secret::{self, SecretsKey};

use crate::endpoints::endpoint::{Endpoint, EndpointRow};
use crate::endpoints::retry::RetryPolicy;

/// What an endpoint is opened with.
#[derive(Debug)]
pub(crate) struct Opener {
    /// The key of all secrets.
    pub key: SecretsKey,
    /// For endpoints that have none of their own.
    pub policy: RetryPolicy,
}

/// An enabled endpoint of kind `push`.
pub(crate) struct LazyEndpoint {
    /// `None` once it is opened.
    row: Mutex<Option<Box<EndpointRow>>>,
    /// `None` when it cannot be used.
    endpoint: OnceLock<Option<Arc<Endpoint>>>,
    opener: Arc<Opener>,
}

impl LazyEndpoint {
    /// As its row says.
    pub(crate) fn new(row: EndpointRow, opener: Arc<Opener>) -> Self {
        Self {
            row: Mutex::new(Some(Box::new(row))),
            endpoint: OnceLock::new(),
            opener,
        }
    }

    /// The endpoint, which is opened now if it is not yet. `None` when it cannot be used.
    pub(crate) fn get(&self) -> Option<&Arc<Endpoint>> {
        self.open(None)
    }

    /// The same. It keeps what it can of `known`, its state before.
    pub(crate) fn open(&self, known: Option<&Endpoint>) -> Option<&Arc<Endpoint>> {
        self.endpoint.get_or_init(|| self.read(known)).as_ref()
    }

    /// The endpoint, if it is open.
    pub(crate) fn opened(&self) -> Option<&Arc<Endpoint>> {
        self.endpoint.get()?.as_ref()
    }

    fn read(&self, known: Option<&Endpoint>) -> Option<Arc<Endpoint>> {
        let mut kept = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        let row = kept.as_ref()?;
        let endpoint = row.endpoint(known, &self.opener.key, &self.opener.policy);
        let endpoint = endpoint.inspect_err(|error| {
            let error = format!("{error:#}");
            tracing::error!(endpoint_id = %row.id, error, "unusable endpoint, its deliveries wait in the table");
        });
        *kept = None;
        endpoint.ok().map(Arc::new)
    }
}

// Without the row: it may hold keys of its owner.
impl fmt::Debug for LazyEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyEndpoint")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// The keys under which secrets were met.
#[derive(Debug, Default)]
pub(crate) struct KeysMet(HashSet<Vec<u8>>);

impl KeysMet {
    /// Whether a secret is the first one under its key.
    pub(crate) fn is_first(&mut self, sealed: &[u8]) -> bool {
        let mark = secret::mark_of(sealed);
        !self.0.contains(mark) && self.0.insert(mark.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::endpoints::endpoint::tests::{key, row};
    use crate::endpoints::retry::tests::default_policy;

    fn opener() -> Arc<Opener> {
        Arc::new(Opener {
            key: key(),
            policy: default_policy(),
        })
    }

    fn lazy(row: EndpointRow) -> LazyEndpoint {
        LazyEndpoint::new(row, opener())
    }

    #[test]
    fn an_endpoint_is_opened_once_and_its_row_is_dropped() {
        let lazy = lazy(row());
        assert!(lazy.opened().is_none() && lazy.row.lock().unwrap().is_some());
        let opened = lazy.get().unwrap().clone();
        assert!(lazy.row.lock().unwrap().is_none());
        assert!(Arc::ptr_eq(lazy.get().unwrap(), &opened));
        assert!(Arc::ptr_eq(lazy.opened().unwrap(), &opened));
    }

    #[test]
    fn a_changed_endpoint_that_was_in_use_keeps_its_gate() {
        let (before, after, other) = (lazy(row()), lazy(row()), lazy(row()));
        let known = before.get().unwrap();
        let gate = |endpoint: Option<&Arc<Endpoint>>| endpoint.unwrap().gate.clone();
        assert!(Arc::ptr_eq(&gate(after.open(Some(known))), &known.gate));
        assert!(!Arc::ptr_eq(&gate(other.get()), &known.gate));
    }

    #[test]
    fn one_that_does_not_open_cannot_be_used() {
        let lazy = lazy(EndpointRow {
            secret: b"of another key".to_vec(),
            ..row()
        });
        assert!(lazy.get().is_none() && lazy.get().is_none() && lazy.opened().is_none());
    }

    #[test]
    fn the_first_secret_of_each_key_is_known_by_its_mark() {
        let text = BASE64.encode(&[8; 32]);
        let other = SecretsKey::of_list(&text).unwrap();
        let mut met = KeysMet::default();
        let seal = |key: &SecretsKey| key.seal(b"secret", b"context");
        assert!(met.is_first(&seal(&key())) && met.is_first(&seal(&other)));
        assert!(!met.is_first(&seal(&key())) && !met.is_first(&seal(&other)));
        assert!(met.is_first(b"") && !met.is_first(b""));
    }

    #[test]
    fn what_it_prints_of_itself_holds_no_row() {
        let lazy = lazy(EndpointRow {
            template: Some("canary-81".to_owned()),
            ..row()
        });
        assert!(!format!("{lazy:?}").contains("canary"));
    }
}
