//! What a replica knows of the others, and what follows from it for the limits that it applies.

use crate::domain::accounts::limit::{Limit, WINDOW_NANOS};

/// All replicas together may run ahead by the window divided by this, before they hurry to tell each other.
const HURRY: u64 = 40;

/// What a replica knows of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// How many there are, this one included.
    pub replicas: u32,
    /// Whether this one cannot hear the others.
    pub cut_off: bool,
}

impl Cluster {
    /// No other replica.
    pub const ALONE: Self = Self {
        replicas: 1,
        cut_off: false,
    };

    const CUT_OFF_BIT: u32 = 1 << 31;

    /// As one integer.
    pub(super) fn pack(self) -> u32 {
        let replicas = self.replicas.min(Self::CUT_OFF_BIT - 1);
        replicas | if self.cut_off { Self::CUT_OFF_BIT } else { 0 }
    }

    /// Reverses [`Cluster::pack`].
    pub(super) fn unpack(packed: u32) -> Self {
        Self {
            replicas: packed & !Self::CUT_OFF_BIT,
            cut_off: packed & Self::CUT_OFF_BIT != 0,
        }
    }

    /// The limit that this replica applies to an account.
    pub(super) fn limit_here(self, limit: Limit) -> Limit {
        if self.cut_off {
            limit.share(self.replicas)
        } else {
            limit
        }
    }

    /// Usage, in nanoseconds, from which on a replica hurries to tell the others.
    pub(super) fn hurry_at(self) -> u64 {
        WINDOW_NANOS / (HURRY * u64::from(self.replicas.max(1)))
    }
}
