//! Why a key was not verified, made or changed.

use crate::store;

/// Why a key was not verified, made or changed.
#[derive(Debug)]
pub(crate) enum KeyError {
    /// It is not a key, or no longer.
    Invalid,
    /// It has expired.
    Expired,
    /// It cannot be known now; a repeat may succeed.
    Unavailable {
        /// What is not available.
        reason: &'static str,
        /// Seconds after which to try again.
        retry_after: u64,
    },
    /// Something is broken.
    Internal(anyhow::Error),
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        match store::unavailable(&error) {
            Some(reason) => Self::Unavailable {
                reason,
                retry_after: store::RETRY_AFTER,
            },
            None => Self::Internal(error.into()),
        }
    }
}
