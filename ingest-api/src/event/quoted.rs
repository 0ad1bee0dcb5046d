//! Quoted strings in headers.

use std::borrow::Cow;

/// Reads a quoted string in which a backslash may stand before what `escaped` allows; text without quotes is taken as
/// it is. None when a quote or backslash is not closed or not escaped.
pub(crate) fn unquote(text: &str, escaped: fn(char) -> bool) -> Option<Cow<'_, str>> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.into());
    };
    let inner = rest.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(inner.into());
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|next| escaped(*next))?),
            '"' => return None,
            c => plain.push(c),
        }
    }
    Some(plain.into())
}
