//! Errors of JSON values, in words for the client.

/// The error of a value that is valid JSON and fits no type here.
pub(crate) fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if text.contains("surrogate") || text.contains("hex escape") {
        HALF_A_PAIR.to_owned()
    } else {
        text.to_owned()
    }
}

/// The error of a string that is not Unicode text.
pub(crate) const HALF_A_PAIR: &str = "holds half of a surrogate pair";
