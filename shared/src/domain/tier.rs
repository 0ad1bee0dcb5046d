//! Tiers of organisations.

use crate::words;

words! {
    /// What an organisation pays for: its rate limit.
    #[derive(Default)]
    pub enum Tier("tier") {
        /// 100 requests a minute.
        #[default]
        Free = "free",
        /// 1 000 requests a minute.
        Pro = "pro",
        /// 10 000 requests a minute.
        Business = "business",
        /// 100 000 requests a minute.
        Enterprise = "enterprise",
    }
}

impl Tier {
    /// Requests a minute.
    pub fn rate_limit_per_minute(self) -> u64 {
        match self {
            Self::Free => 100,
            Self::Pro => 1_000,
            Self::Business => 10_000,
            Self::Enterprise => 100_000,
        }
    }
}
