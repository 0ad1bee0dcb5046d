//! Tiers of organisations.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What an organisation pays for: its rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// 100 requests a minute.
    #[default]
    Free,
    /// 1 000 requests a minute.
    Pro,
    /// 10 000 requests a minute.
    Business,
    /// 100 000 requests a minute.
    Enterprise,
}

impl Tier {
    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Business => "business",
            Self::Enterprise => "enterprise",
        }
    }

    /// Reads a name from the database.
    ///
    /// # Errors
    /// When a later release has written a tier that this one does not know.
    pub fn from_name(name: &str) -> Result<Self, UnknownTier> {
        let all = [Self::Free, Self::Pro, Self::Business, Self::Enterprise];
        let found = all.into_iter().find(|tier| tier.name() == name);
        found.ok_or_else(|| UnknownTier(name.to_owned()))
    }

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

/// A tier that this release does not know.
#[derive(Debug, thiserror::Error)]
#[error("the organisation's tier `{0}` is none that this release knows")]
pub struct UnknownTier(String);

impl From<UnknownTier> for sqlx::Error {
    fn from(error: UnknownTier) -> Self {
        Self::Decode(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_of_a_later_release_is_an_error_that_names_it() {
        assert_eq!(Tier::from_name("business").unwrap(), Tier::Business);
        let error = Tier::from_name("galactic").unwrap_err();
        insta::assert_snapshot!(error, @"the organisation's tier `galactic` is none that this release knows");
    }
}
