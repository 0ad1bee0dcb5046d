//! The tokens of the admin API.

use std::fmt;
use std::str::FromStr;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The name of `ADMIN_TOKEN`, which no other token may have.
const UNNAMED: &str = "admin";

/// Most characters of a name.
const MAX_NAME: usize = 64;

/// Fewest characters of a token.
const MIN_TOKEN: usize = 32;

/// What a token may do. The later includes the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminScope {
    /// To look.
    Read,
    /// To change things too.
    Manage,
}

/// A token of the admin API.
#[derive(Clone)]
pub struct AdminToken {
    name: String,
    scope: AdminScope,
    token: Zeroizing<String>,
}

impl AdminToken {
    /// Its name, as logs and the audit log show it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub fn scope(&self) -> AdminScope {
        self.scope
    }

    /// Compares in constant time.
    fn matches(&self, token: &str) -> bool {
        self.token.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl FromStr for AdminToken {
    type Err = &'static str;

    /// `ADMIN_TOKEN`: it may do everything.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            name: UNNAMED.to_owned(),
            scope: AdminScope::Manage,
            token: token(text)?,
        })
    }
}

fn token(text: &str) -> Result<Zeroizing<String>, &'static str> {
    if text.len() < MIN_TOKEN {
        return Err("shorter than 32 characters (make one with `openssl rand -hex 32`)");
    }
    Ok(Zeroizing::new(text.to_owned()))
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({})", self.name)
    }
}

/// All tokens of the admin API.
#[derive(Clone, Debug, Default)]
pub struct AdminTokens(Vec<AdminToken>);

impl AdminTokens {
    /// Reads `name:scope:token` items that commas separate.
    ///
    /// # Errors
    /// With what is wrong with which item, without its token.
    pub fn of_list(text: &str) -> Result<Self, String> {
        let mut tokens: Vec<AdminToken> = Vec::new();
        for (index, item) in text.split(',').enumerate() {
            let new = named(item.trim()).map_err(|error| format!("item {}: {error}", index + 1))?;
            if tokens.iter().any(|known| known.name == new.name) {
                return Err(format!("the name `{}` stands twice", new.name));
            }
            if let Some(same) = tokens.iter().find(|known| known.matches(&new.token)) {
                return Err(format!("`{}` and `{}` have the same token", same.name, new.name));
            }
            tokens.push(new);
        }
        Ok(Self(tokens))
    }

    /// With the token of `ADMIN_TOKEN`, if there is one.
    #[must_use]
    pub fn with_unnamed(mut self, token: Option<&AdminToken>) -> Self {
        self.0.extend(token.cloned());
        self
    }

    /// Whether there is none: then there is no admin API.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The token that equals this text.
    pub fn find(&self, text: &str) -> Option<&AdminToken> {
        self.0.iter().find(|token| token.matches(text))
    }
}

fn named(item: &str) -> Result<AdminToken, String> {
    let mut parts = item.splitn(3, ':');
    let (Some(name), Some(scope), Some(text)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("not of the form name:scope:token".to_owned());
    };
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if !is_name {
        return Err("the name must be 1 to 64 letters, digits, `-`, `_` and `.`".to_owned());
    }
    if name == UNNAMED {
        return Err(format!("the name `{UNNAMED}` is that of ADMIN_TOKEN"));
    }
    let scope = match scope {
        "read" => AdminScope::Read,
        "manage" => AdminScope::Manage,
        _ => return Err(format!("the scope of `{name}` is neither `read` nor `manage`")),
    };
    let token = token(text).map_err(|error| format!("the token of `{name}` is {error}"))?;
    Ok(AdminToken {
        name: name.to_owned(),
        scope,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn named_tokens_are_told_apart_and_say_what_they_may_do() {
        let other = LONG.replace('0', "x:");
        let tokens = AdminTokens::of_list(&format!("ci:read:{LONG}, ops.2:manage:{other}")).unwrap();
        let found = |text| tokens.find(text).map(|token| (token.name(), token.scope()));
        assert_eq!(found(LONG), Some(("ci", AdminScope::Read)));
        assert_eq!(found(&other), Some(("ops.2", AdminScope::Manage)));
        assert_eq!(found("x"), None);
        assert!(AdminScope::Read < AdminScope::Manage);
        assert!(!format!("{tokens:?}").contains(LONG));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_token() {
        let refused = |text: String| {
            let error = AdminTokens::of_list(&text).unwrap_err();
            assert!(!error.contains(LONG), "{error}");
            error
        };
        let cases = [
            (LONG.to_owned(), "item 1: not of the form name:scope:token"),
            (
                format!("a:read:{LONG},"),
                "item 2: not of the form name:scope:token",
            ),
            (
                format!("a b:read:{LONG}"),
                "item 1: the name must be 1 to 64 letters, digits, `-`, `_` and `.`",
            ),
            (
                format!("admin:read:{LONG}"),
                "item 1: the name `admin` is that of ADMIN_TOKEN",
            ),
            (
                format!("a:write:{LONG}"),
                "item 1: the scope of `a` is neither `read` nor `manage`",
            ),
            (
                "a:read:short".to_owned(),
                "item 1: the token of `a` is shorter than 32 characters (make one with `openssl rand -hex 32`)",
            ),
            (
                format!("a:read:{LONG},a:read:{LONG}x"),
                "the name `a` stands twice",
            ),
            (
                format!("a:read:{LONG},b:manage:{LONG}"),
                "`a` and `b` have the same token",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(refused(text), error);
        }
    }
}
