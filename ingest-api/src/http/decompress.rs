//! Request bodies in a content coding: gzip and Zstandard.
//!
//! What comes out is bounded like a body that was sent as it is, and counted as it comes out; the input is given to a
//! decoder in small pieces, between which other requests have their turn. A request without a `Content-Encoding` never
//! comes here.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use crate::http::error::ApiError;
use crate::http::request_body::{BodyLimits, Gathered};

/// Most codings of one body, one around the other.
const MAX_CODINGS: usize = 2;

/// How many times longer than what was sent a body may be. Deflate stays below 1 033, and events that differ in anything
/// below a tenth of that.
const MAX_RATIO: usize = 500;

/// What may come out of however little.
const FREE_BYTES: usize = 256 * 1024;

/// Window that a Zstandard frame may ask for: 8 MiB (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// The largest window of a gzip member, and that there is a gzip header (zlib's `windowBits` without the 16 for that).
const GZIP_WINDOW_BITS: u8 = 15;

/// What is read and written at the most before others have their turn: some 0.1 ms.
const STEP_IN: usize = 8 * 1024;
const STEP_OUT: usize = 64 * 1024;

/// How a body was made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The codings of a body, in the order in which they were applied.
///
/// # Errors
/// 415 when one is not known, or there are too many.
pub fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, ApiError> {
    let mut codings = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let names = value.to_str().map_err(|_| ApiError::UnsupportedCoding)?;
        for name in names.split(',').map(|name| name.trim().to_ascii_lowercase()) {
            match name.as_str() {
                "" | "identity" => {}
                // RFC 9110, 8.4.1.3.
                "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                "zstd" => codings.push(Coding::Zstd),
                _ => return Err(ApiError::UnsupportedCoding),
            }
        }
    }
    if codings.len() > MAX_CODINGS {
        return Err(ApiError::UnsupportedCoding);
    }
    Ok(codings)
}

/// The most bytes that a compressed body may have. What cannot be made smaller becomes a little larger.
pub fn compressed_limit(limit: usize) -> usize {
    limit + limit / 16 + 1_024
}

/// Reverses the codings of a body that is to have at most `limit` bytes.
///
/// # Errors
/// 413 past `limit`, and when it is out of proportion to what was sent; 503 when all bodies together take too much memory;
/// 400 when it is not in these codings, not to its end, or something follows.
pub async fn decompress(
    mut body: Bytes,
    codings: &[Coding],
    limit: usize,
    bodies: &BodyLimits,
) -> Result<Bytes, ApiError> {
    let sent = body.len();
    for (inner, coding) in codings.iter().enumerate().rev() {
        // What a client sends without having anything to say.
        if body.is_empty() {
            break;
        }
        let output = Output {
            gathered: bodies.empty_body(),
            limit: if inner == 0 {
                limit
            } else {
                compressed_limit(limit)
            },
            sent,
        };
        body = decode(*coding, &body, output).await?;
    }
    Ok(body)
}

/// What has come out so far.
struct Output {
    gathered: Gathered,
    limit: usize,
    sent: usize,
}

impl Output {
    fn append(&mut self, piece: &[u8]) -> Result<(), ApiError> {
        let length = self.gathered.len() + piece.len();
        if length > self.limit {
            return Err(ApiError::TooLarge { limit: self.limit });
        }
        if length > FREE_BYTES && length / MAX_RATIO > self.sent {
            return Err(ApiError::OutOfProportion { ratio: MAX_RATIO });
        }
        self.gathered.append(piece, self.limit)
    }
}

async fn decode(coding: Coding, mut input: &[u8], mut output: Output) -> Result<Bytes, ApiError> {
    let malformed =
        |detail: &str| ApiError::Malformed(format!("the body is not {}: {detail}", coding.name()));
    let mut decoder = Decoder::new(coding).map_err(|detail| malformed(&detail))?;
    let mut buffer = vec![0; STEP_OUT];
    loop {
        let given = &input[..input.len().min(STEP_IN)];
        let step = decoder
            .step(given, &mut buffer)
            .map_err(|detail| malformed(&detail))?;
        input = &input[step.read..];
        output.append(&buffer[..step.written])?;
        let may_hold_more = step.written == buffer.len();
        if input.is_empty() && (step.ended || !may_hold_more) {
            return if step.ended {
                Ok(Bytes::from_owner(output.gathered))
            } else {
                Err(malformed("it ends too early"))
            };
        }
        if step.read == 0 && step.written == 0 && !step.ended {
            return Err(malformed("it makes no sense"));
        }
        tokio::task::yield_now().await;
    }
}

enum Decoder {
    Gzip(Decompress),
    Zstd(Box<ZstdDecoder<'static>>),
}

/// What one step did.
struct Step {
    read: usize,
    written: usize,
    /// A member or frame is complete: another one may follow, and nothing else.
    ended: bool,
}

impl Decoder {
    fn new(coding: Coding) -> Result<Self, String> {
        let zstd = || {
            let mut decoder = ZstdDecoder::new()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
            Ok::<_, std::io::Error>(Self::Zstd(Box::new(decoder)))
        };
        match coding {
            Coding::Gzip => Ok(Self::Gzip(Decompress::new_gzip(GZIP_WINDOW_BITS))),
            Coding::Zstd => zstd().map_err(|error| error.to_string()),
        }
    }

    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Result<Step, String> {
        match self {
            Self::Gzip(decoder) => {
                let (read, written) = (decoder.total_in(), decoder.total_out());
                let status = decoder.decompress(input, output, FlushDecompress::None);
                let status = status.map_err(|error| error.message().unwrap_or("it is damaged").to_owned())?;
                let since = |now: u64, before| usize::try_from(now - before).unwrap_or_default();
                let step = Step {
                    read: since(decoder.total_in(), read),
                    written: since(decoder.total_out(), written),
                    ended: status == Status::StreamEnd,
                };
                if step.ended {
                    // It expects a gzip header again.
                    decoder.reset(true);
                }
                Ok(step)
            }
            Self::Zstd(decoder) => {
                let mut input = InBuffer::around(input);
                let mut output = OutBuffer::around(output);
                let rest = decoder
                    .run(&mut input, &mut output)
                    .map_err(|error| error.to_string())?;
                Ok(Step {
                    read: input.pos,
                    written: output.pos(),
                    ended: rest == 0,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4 * 1024 * 1024;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 3).unwrap()
    }

    fn undo(body: &[u8], codings: &[Coding], limit: usize) -> Result<Vec<u8>, String> {
        let limits = BodyLimits::new(Duration::from_secs(1), 64 * 1024 * 1024);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let body = Bytes::copy_from_slice(body);
        let outcome = runtime.block_on(decompress(body, codings, limit, &limits));
        outcome
            .map(|bytes| bytes.to_vec())
            .map_err(|error| error.in_words())
    }

    /// Text that is made no smaller than a quarter or so.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 7_u64;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn what_was_compressed_comes_out_as_it_was() {
        for data in [&b""[..], b"{}", &noise(LIMIT), &b"[1,2]".repeat(1_000)] {
            assert_eq!(undo(&gzip(data), &[Coding::Gzip], LIMIT).as_deref(), Ok(data));
            assert_eq!(undo(&zstd(data), &[Coding::Zstd], LIMIT).as_deref(), Ok(data));
            let twice = zstd(&gzip(data));
            assert_eq!(
                undo(&twice, &[Coding::Gzip, Coding::Zstd], LIMIT).as_deref(),
                Ok(data)
            );
        }
        assert_eq!(undo(b"", &[Coding::Gzip], LIMIT), Ok(Vec::new()));
    }

    #[test]
    fn members_and_frames_follow_one_another() {
        let parts =
            |compress: fn(&[u8]) -> Vec<u8>| [compress(b"{\"a"), compress(b""), compress(b"\":1}")].concat();
        for (coding, body) in [(Coding::Gzip, parts(gzip)), (Coding::Zstd, parts(zstd))] {
            assert_eq!(undo(&body, &[coding], LIMIT).as_deref(), Ok(&b"{\"a\":1}"[..]));
        }
        // A frame to be skipped (RFC 8878, 3.1.2), before, between and after.
        let skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc";
        let body = [skipped, &zstd(b"1")[..], skipped, &zstd(b"2")[..], skipped].concat();
        assert_eq!(undo(&body, &[Coding::Zstd], LIMIT).as_deref(), Ok(&b"12"[..]));
    }

    #[test]
    fn what_is_cut_or_followed_by_something_is_refused() {
        let data = b"{\"type\":\"a\",\"data\":[1,2,3,4,5,6,7,8,9]}".repeat(9);
        for (coding, body) in [(Coding::Gzip, gzip(&data)), (Coding::Zstd, zstd(&data))] {
            for cut in 1..body.len() {
                let refused = undo(&body[..cut], &[coding], LIMIT).unwrap_err();
                assert!(refused.starts_with("400 "), "{coding:?} {cut}: {refused}");
            }
            for rest in [&b"x"[..], b"{\"more\":true}", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"] {
                let refused = undo(&[&body[..], rest].concat(), &[coding], LIMIT).unwrap_err();
                assert!(refused.starts_with("400 "), "{coding:?} {rest:?}: {refused}");
            }
        }
        insta::assert_snapshot!(undo(&gzip(&data)[..20], &[Coding::Gzip], LIMIT).unwrap_err(), @"400 the body is not gzip: it ends too early");
        for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Zstd, "zstd")] {
            let refused = undo(b"{\"type\":\"a\"}", &[coding], LIMIT).unwrap_err();
            let expected = format!("400 the body is not {name}: ");
            assert!(
                refused.starts_with(&expected) && refused.len() > expected.len(),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_damaged_checksum_is_seen() {
        let mut body = gzip(b"{\"type\":\"a\"}");
        let checksum = body.len() - 8;
        body[checksum] ^= 1;
        assert!(
            undo(&body, &[Coding::Gzip], LIMIT)
                .unwrap_err()
                .starts_with("400 ")
        );
    }

    #[test]
    fn the_limit_counts_what_comes_out() {
        let data = noise(10_000);
        for (coding, body) in [(Coding::Gzip, gzip(&data)), (Coding::Zstd, zstd(&data))] {
            assert!(undo(&body, &[coding], 10_000).is_ok());
            insta::allow_duplicates! {
                insta::assert_snapshot!(undo(&body, &[coding], 9_999).unwrap_err(), @"413 the body is larger than 9999 bytes");
            }
        }
    }

    #[test]
    fn what_grows_out_of_proportion_is_refused_once_it_is_large() {
        let spaces = |length| vec![b' '; length];
        for (coding, compress) in [(Coding::Gzip, gzip as fn(&[u8]) -> Vec<u8>), (Coding::Zstd, zstd)] {
            assert!(undo(&compress(&spaces(FREE_BYTES)), &[coding], LIMIT).is_ok());
            insta::allow_duplicates! {
                insta::assert_snapshot!(undo(&compress(&spaces(LIMIT)), &[coding], LIMIT).unwrap_err(), @"413 the body grows to more than 500 times its size when it is decompressed");
            }
        }
        let twice = gzip(&gzip(&spaces(LIMIT)));
        assert!(undo(&twice, &[Coding::Gzip, Coding::Gzip], LIMIT).is_err());
    }

    #[test]
    fn a_window_of_more_than_eight_mebibytes_is_refused() {
        let with_window = |log| {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_contentsize(false).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"{}").unwrap();
            encoder.finish().unwrap()
        };
        assert!(undo(&with_window(23), &[Coding::Zstd], LIMIT).is_ok());
        insta::assert_snapshot!(undo(&with_window(24), &[Coding::Zstd], LIMIT).unwrap_err(), @"400 the body is not zstd: Frame requires too much memory for decoding");
    }

    #[test]
    fn codings_are_read_whatever_their_case_and_unknown_ones_refused() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            codings(&headers).map_err(|error| error.in_words())
        };
        for none in [&["Identity"][..], &[""], &["identity, IDENTITY"], &[]] {
            assert_eq!(read(none), Ok(Vec::new()));
        }
        assert_eq!(read(&["GZip"]), Ok(vec![Coding::Gzip]));
        assert_eq!(
            read(&["x-gzip , identity", "ZSTD"]),
            Ok(vec![Coding::Gzip, Coding::Zstd])
        );
        for unknown in [
            "deflate",
            "br",
            "gzip, br",
            "gzip;q=1",
            "gzip, gzip, gzip",
            "chunked",
        ] {
            insta::allow_duplicates! {
                insta::assert_snapshot!(read(&[unknown]).unwrap_err(), @"415 of content codings, send gzip or zstd, at most two of them, or none");
            }
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic_or_turn_forever(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            start in prop_oneof![Just(0), Just(2), Just(4), Just(10), Just(20)],
        ) {
            for (coding, valid) in [(Coding::Gzip, gzip(b"[1,2,3]")), (Coding::Zstd, zstd(b"[1,2,3]"))] {
                let body = [&valid[..valid.len().min(start)], &body].concat();
                let _ = undo(&body, &[coding], 10_000);
            }
        }
    }
}
