//! The headers of every answer whose handler has not set them.

use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

const DEFAULTS: [(HeaderName, HeaderValue); 3] = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    // Answers hold customers' data: no cache may keep them.
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// Adds those that are missing.
pub(crate) fn add(headers: &mut HeaderMap) {
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_a_handler_has_set_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        add(&mut headers);
        insta::assert_debug_snapshot!(headers, @r#"
        {
            "cache-control": "max-age=60",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
        }
        "#);
    }
}
