//! Names that producers choose: event types, idempotency keys, ordering keys and tenants.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Checks what all of these names have in common.
///
/// # Errors
/// With what is wrong.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("must not be empty")
    } else if name.len() > MAX_NAME_BYTES {
        Err("must not be longer than 255 bytes")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err("must not contain white space or control characters")
    } else {
        Ok(())
    }
}

/// A tenant, one of an organisation's own customers, by the id that the organisation gave it.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type, ToSchema,
)]
#[serde(into = "String", try_from = "String")]
#[sqlx(transparent)]
#[schema(value_type = String, min_length = 1, max_length = 255, pattern = r"^[^\s\x00-\x1f\x7f-\x9f]+$")]
pub struct Tenant(Box<str>);

impl Tenant {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tenant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        check_name(text)?;
        Ok(Self(text.into()))
    }
}

impl TryFrom<String> for Tenant {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0.into()
    }
}

impl Borrow<str> for Tenant {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_any_text_that_is_a_name() {
        for good in ["a", "acme/eu-1", "ü", &"x".repeat(255)] {
            assert_eq!(good.parse::<Tenant>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\u{a0}b", "a\nb", "a\0", &"x".repeat(256)] {
            assert!(bad.parse::<Tenant>().is_err(), "{bad:?}");
            let body = serde_json::to_string(bad).unwrap();
            assert!(serde_json::from_str::<Tenant>(&body).is_err());
        }
    }
}
