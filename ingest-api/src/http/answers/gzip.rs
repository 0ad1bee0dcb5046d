//! Answers that are kept in gzip, and clients that do not take it.

use std::io::{Cursor, Read as _};

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT_ENCODING;
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use futures_util::stream;

/// Most bytes that are unzipped before other requests may run: about 0.1 ms.
const STEP: usize = 64 * 1024;

/// Whether a client takes gzip.
pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let codings = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    let mut codings = codings.unwrap_or_default().split(',');
    codings.any(|coding| coding.trim() == "gzip")
}

/// A body of what is kept in gzip, unzipped piece by piece while the client takes it.
pub(crate) fn unzipped(zipped: impl AsRef<[u8]> + Send + 'static) -> Body {
    let mut decoder = GzDecoder::new(Cursor::new(zipped));
    let pieces = std::iter::from_fn(move || {
        let mut piece = vec![0; STEP];
        match decoder.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(Bytes::from(piece)))
            }
            Err(error) => Some(Err(error)),
        }
    });
    Body::from_stream(stream::iter(pieces))
}
