//! The files of the pages, as they stand in `ingest-api/console/`.

use std::io::Write as _;
use std::sync::LazyLock;

use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::answers::gzip::takes_gzip;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// Names files of `ingest-api/console/`, with their media types.
macro_rules! files {
    ($($name:literal $kind:ident)*) => {
        &[$(($name, $kind, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/console/", $name)).as_slice())),*]
    };
}

const SOURCES: &[(&str, &str, &[u8])] = files![
    "console.html" HTML
    "portal.html" HTML
    "style.css" STYLE
    "console.js" SCRIPT
    "portal.js" SCRIPT
    "shell.js" SCRIPT
    "pages/overview.js" SCRIPT
    "parts/chart.js" SCRIPT
    "pages/system.js" SCRIPT
    "pages/live.js" SCRIPT
    "pages/events.js" SCRIPT
    "endpoints/endpoints.js" SCRIPT
    "endpoints/endpoint-stats.js" SCRIPT
    "endpoints/endpoint-form.js" SCRIPT
    "endpoints/endpoint-fields.js" SCRIPT
    "endpoints/header-fields.js" SCRIPT
    "endpoints/signature-fields.js" SCRIPT
    "endpoints/auth-fields.js" SCRIPT
    "endpoints/public-key.js" SCRIPT
    "endpoints/preview.js" SCRIPT
    "pages/signature.js" SCRIPT
    "pages/request-headers.js" SCRIPT
    "pages/dead.js" SCRIPT
    "endpoints/recovery.js" SCRIPT
    "pages/tenants.js" SCRIPT
    "pages/usage.js" SCRIPT
    "pages/keys.js" SCRIPT
    "pages/organizations.js" SCRIPT
    "api/organization-names.js" SCRIPT
    "pages/portal-settings.js" SCRIPT
    "parts/ui.js" SCRIPT
    "parts/heading.js" SCRIPT
    "parts/form.js" SCRIPT
    "parts/dialog.js" SCRIPT
    "parts/cover.js" SCRIPT
    "texts.js" SCRIPT
    "texts/common.js" SCRIPT
    "texts/sessions.js" SCRIPT
    "texts/overview.js" SCRIPT
    "texts/system.js" SCRIPT
    "texts/live.js" SCRIPT
    "texts/events.js" SCRIPT
    "texts/endpoints.js" SCRIPT
    "texts/endpoint-form.js" SCRIPT
    "texts/usage.js" SCRIPT
    "texts/dead.js" SCRIPT
    "texts/tenants.js" SCRIPT
    "texts/keys.js" SCRIPT
    "texts/organizations.js" SCRIPT
    "texts/portal-settings.js" SCRIPT
    "parts/raw.js" SCRIPT
    "api/me.js" SCRIPT
    "api/renewal.js" SCRIPT
    "route.js" SCRIPT
    "api/api.js" SCRIPT
    "api/stream.js" SCRIPT
    "parts/html.js" SCRIPT
    "vendor/preact.js" SCRIPT
    "vendor/hooks.js" SCRIPT
    "vendor/htm.js" SCRIPT
];

/// A file that is served.
#[derive(Debug)]
pub(super) struct File {
    name: &'static str,
    kind: &'static str,
    plain: &'static [u8],
    zipped: Bytes,
    etag: HeaderValue,
}

static FILES: LazyLock<Vec<File>> = LazyLock::new(|| SOURCES.iter().map(File::new).collect());

/// The file of this name.
pub(super) fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

impl File {
    fn new(&(name, kind, plain): &(&'static str, &'static str, &'static [u8])) -> Self {
        let etag = format!("\"{}\"", &blake3::hash(plain).to_hex()[..32]);
        Self {
            name,
            kind,
            plain,
            zipped: zip(plain),
            etag: HeaderValue::try_from(etag).expect("hex digits and quotes are ASCII"),
        }
    }

    /// Whether it is a page, which has an address of its own.
    pub(super) fn is_page(&self) -> bool {
        self.kind == HTML
    }

    /// The bytes.
    pub(super) fn plain(&self) -> &'static [u8] {
        self.plain
    }

    /// The answer to a request for it. A browser keeps it, and asks each time whether it has changed.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if is_known(headers, &self.etag) {
            StatusCode::NOT_MODIFIED.into_response()
        } else if takes_gzip(headers) {
            ([(CONTENT_ENCODING, "gzip")], self.zipped.clone()).into_response()
        } else {
            Bytes::from_static(self.plain).into_response()
        };
        let answer = response.headers_mut();
        answer.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        answer.insert(ETAG, self.etag.clone());
        answer.insert(VARY, HeaderValue::from_static("accept-encoding"));
        answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        response
    }
}

fn zip(plain: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(plain).and_then(|()| encoder.finish());
    written.expect("memory takes what is written").into()
}

fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let known = headers.get(IF_NONE_MATCH).map(HeaderValue::as_bytes);
    let mut tags = known
        .unwrap_or_default()
        .split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii);
    tags.any(|tag| tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use axum::http::header::ACCEPT_ENCODING;

    use super::*;

    /// Most bytes of all files, compressed.
    const MAX_BYTES: usize = 150 * 1024;

    fn names(folder: &str, found: &mut BTreeSet<String>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("console").join(folder);
        for entry in std::fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}{}", entry.file_name().to_str().unwrap());
            if entry.path().is_dir() {
                names(&format!("{name}/"), found);
            } else if [".html", ".css", ".js"].iter().any(|end| name.ends_with(end)) {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_of_the_pages_is_served_and_all_are_small() {
        let mut found = BTreeSet::new();
        names("", &mut found);
        let served: BTreeSet<_> = FILES.iter().map(|file| file.name.to_owned()).collect();
        assert_eq!(found, served);
        let sum: usize = FILES.iter().map(|file| file.zipped.len()).sum();
        assert!(sum <= MAX_BYTES, "{sum} bytes");
    }

    #[test]
    fn no_two_texts_of_the_pages_have_the_same_key() {
        let mut keys = BTreeSet::new();
        for file in FILES.iter().filter(|file| file.name.starts_with("texts/")) {
            let text = std::str::from_utf8(file.plain).unwrap();
            let entries = text
                .lines()
                .filter_map(|line| line.strip_prefix("  ")?.split_once(": ["));
            for (key, _) in entries {
                assert!(keys.insert(key.trim_matches('"')), "{key} in {}", file.name);
            }
        }
        assert!(keys.contains("save") && keys.contains("key.revoke"));
    }

    #[test]
    fn a_file_is_sent_once_and_compressed_where_that_is_taken() {
        let file = find("style.css").unwrap();
        let answer = |headers: &[(axum::http::HeaderName, &HeaderValue)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.clone(), (*value).clone()));
            file.answer(&headers.collect())
        };
        let gzip = HeaderValue::from_static("br, gzip");
        assert_eq!(answer(&[]).headers().get(CONTENT_ENCODING), None);
        assert_eq!(
            answer(&[(ACCEPT_ENCODING, &gzip)]).headers()[CONTENT_ENCODING],
            "gzip"
        );
        assert_eq!(answer(&[(IF_NONE_MATCH, &file.etag)]).status(), 304);
        let other = HeaderValue::from_static("\"other\"");
        assert_eq!(answer(&[(IF_NONE_MATCH, &other)]).status(), 200);
    }
}
