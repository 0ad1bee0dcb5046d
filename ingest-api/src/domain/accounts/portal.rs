//! What an organisation sets of its portal.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::form::field_errors::{FieldErrors, WrongFields};

/// Largest picture, in bytes.
const MAX_LOGO_BYTES: usize = 64 * 1024;

/// Most origins.
const MAX_ORIGINS: usize = 20;

/// Most characters of the name.
const MAX_NAME_CHARS: usize = 200;

/// What an organisation's portal looks like, and which web pages may embed it. A field that is left out gets its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PortalSettings {
    /// The name in the head of the page, up to 200 characters; none unless given.
    #[schema(max_length = 200)]
    pub name: String,
    /// Origins of the web pages that may embed the portal and renew its sessions, such as `https://app.example.com`; up to 20.
    #[schema(max_items = 20)]
    pub origins: Vec<String>,
    /// An SVG or PNG of up to 64 KiB, as a `data:` URL in base64.
    #[schema(pattern = "^data:image/(svg\\+xml|png);base64,[A-Za-z0-9+/]*=*$")]
    pub logo: Option<String>,
    /// The colour of the head, as `#rrggbb`.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub primary_color: Option<String>,
    /// The colour of links and buttons, as `#rrggbb`.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub accent_color: Option<String>,
    /// `primary_color` where people prefer dark pages.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub dark_primary_color: Option<String>,
    /// `accent_color` where people prefer dark pages.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$")]
    pub dark_accent_color: Option<String>,
}

impl PortalSettings {
    /// Checks the fields.
    ///
    /// # Errors
    /// With the wrong ones.
    pub(crate) fn check(&self) -> Result<(), WrongFields> {
        let mut errors = FieldErrors::default();
        if self.name.chars().count() > MAX_NAME_CHARS || self.name.contains('\0') {
            let detail = format!("must have at most {MAX_NAME_CHARS} characters, none of them NUL");
            errors.push("name", detail);
        }
        if self.origins.len() > MAX_ORIGINS {
            errors.push("origins", format!("must have at most {MAX_ORIGINS} items"));
        }
        for (index, origin) in self.origins.iter().enumerate() {
            errors.check(&format!("origins[{index}]"), check_origin(origin));
        }
        let logo = self.logo.as_deref();
        errors.check("logo", logo.map_or(Ok(()), check_logo));
        for (field, color) in [
            ("primary_color", &self.primary_color),
            ("accent_color", &self.accent_color),
            ("dark_primary_color", &self.dark_primary_color),
            ("dark_accent_color", &self.dark_accent_color),
        ] {
            errors.check(field, color.as_deref().map_or(Ok(()), check_color));
        }
        errors.finish()
    }
}

/// An origin stands in a header and in the page, so it must be one and nothing else.
fn check_origin(text: &str) -> Result<(), &'static str> {
    let url = url::Url::parse(text).ok();
    let is_origin = url.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text
    });
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b":/.-[]".contains(&byte));
    (is_origin && is_plain)
        .then_some(())
        .ok_or("must be an origin such as https://app.example.com")
}

fn check_logo(text: &str) -> Result<(), &'static str> {
    const WRONG: &str = "must be `data:image/svg+xml;base64,…` or `data:image/png;base64,…`";
    let png = text.strip_prefix("data:image/png;base64,");
    let data = png.or_else(|| text.strip_prefix("data:image/svg+xml;base64,"));
    let bytes = BASE64.decode(data.ok_or(WRONG)?.as_bytes()).map_err(|_| WRONG)?;
    if bytes.len() > MAX_LOGO_BYTES {
        return Err("must have at most 65536 bytes");
    }
    Ok(())
}

fn check_color(text: &str) -> Result<(), &'static str> {
    let digits = text.strip_prefix('#').unwrap_or_default();
    let is_color = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_color.then_some(()).ok_or("must be a colour such as #1f6feb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_nothing_that_could_say_more_in_a_header_or_a_page() {
        for good in [
            "https://app.example.com",
            "http://localhost:3000",
            "https://[::1]:8443",
        ] {
            assert_eq!(check_origin(good), Ok(()), "{good}");
        }
        for bad in [
            "*",
            "null",
            "https://a.example/",
            "https://a.example/path",
            "https://a.example; script-src *",
            "https://a.example\" onload=\"x",
            "javascript:alert(1)",
            "https://A.example",
            "ftp://a.example",
            "",
        ] {
            assert!(check_origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let wrong = PortalSettings {
            origins: vec!["https://a.example".to_owned(), "a".to_owned()],
            logo: Some("data:text/html;base64,AAAA".to_owned()),
            accent_color: Some("red; background: url(x)".to_owned()),
            ..PortalSettings::default()
        };
        let fields: Vec<_> = wrong
            .check()
            .unwrap_err()
            .0
            .into_iter()
            .map(|error| error.field)
            .collect();
        assert_eq!(fields, ["origins[1]", "logo", "accent_color"]);
        let large = format!(
            "data:image/png;base64,{}",
            BASE64.encode(&vec![0; MAX_LOGO_BYTES + 1])
        );
        assert!(check_logo(&large).is_err());
        let largest = format!(
            "data:image/png;base64,{}",
            BASE64.encode(&vec![0; MAX_LOGO_BYTES])
        );
        assert_eq!(check_logo(&largest), Ok(()));
    }
}
