//! The token of the admin API.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq as _;

/// The token of the admin API.
#[derive(Clone)]
pub struct AdminToken(String);

impl AdminToken {
    /// Compares in constant time.
    pub fn matches(&self, token: &str) -> bool {
        self.0.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl FromStr for AdminToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() < 32 {
            return Err("shorter than 32 characters (make one with `openssl rand -hex 32`)");
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}
