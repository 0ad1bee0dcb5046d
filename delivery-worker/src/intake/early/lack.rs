//! What an event lacks that may begin early and waits.

use std::sync::Arc;

use crate::endpoints::endpoint::Endpoint;

/// What keeps an event waiting.
#[derive(Debug)]
pub(crate) struct Lack {
    /// The endpoint that had no permit for it. If several had none, the last of them.
    pub endpoint: Arc<Endpoint>,
    /// How many of the worker's permits it needs, one for each delivery.
    pub permits: usize,
}
