//! Writing values into a body that is JSON.

use minijinja::{Error, Output, State, Value};

/// Writes a value. A text is escaped as what stands within quotes, which are the template's: `"Order {{ data.id }}"` is right
/// whatever the id is. What `tojson` made is whole already, and so is every other value.
pub(super) fn write(out: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Ok(());
    }
    match value.as_str() {
        Some(text) if value.is_safe() => out.write_str(text)?,
        Some(text) => escape(out, text)?,
        None => {
            let json = state.apply_filter("tojson", std::slice::from_ref(value))?;
            out.write_str(json.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn escape(out: &mut Output<'_>, text: &str) -> std::fmt::Result {
    let mut plain = 0;
    for (at, char) in text.char_indices() {
        if !matches!(char, '"' | '\\' | '\0'..='\x1f') {
            continue;
        }
        out.write_str(&text[plain..at])?;
        match char {
            '"' | '\\' => write!(out, "\\{char}")?,
            '\n' => out.write_str("\\n")?,
            _ => write!(out, "\\u{:04x}", u32::from(char))?,
        }
        plain = at + char.len_utf8();
    }
    out.write_str(&text[plain..])
}
