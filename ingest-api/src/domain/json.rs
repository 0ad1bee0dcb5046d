//! What is wrong with a value in JSON, in words for whoever sent it.

/// What is wrong with a value that valid JSON holds and no type of ours can.
pub(crate) fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    if text.contains("surrogate") || text.contains("hex escape") {
        HALF_A_PAIR.to_owned()
    } else {
        text.to_owned()
    }
}

/// What is wrong with a string that is no text.
pub(crate) const HALF_A_PAIR: &str = "holds half of a surrogate pair";
