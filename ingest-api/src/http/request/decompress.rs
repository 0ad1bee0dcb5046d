//! Request bodies in a content coding: gzip and Zstandard.
//!
//! The decompressed body has the same limit as one that was sent plain, and is counted while it is decoded. The decoder
//! gets its input in small pieces; between two of them other requests run. A request without a `Content-Encoding` does
//! not come here.

use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as ZstdDecoder, InBuffer, Operation as _, OutBuffer};

use crate::http::error::ApiError;
use crate::http::request::body_limits::BodyLimits;
use crate::http::request::room::Held;

/// Most codings of one body, applied one after the other.
const MAX_CODINGS: usize = 2;

/// How many times larger a body may become when it is decompressed. Deflate cannot exceed 1 033; events that differ at
/// all stay below a tenth of that.
const MAX_RATIO: usize = 500;

/// A body of any size may be decompressed to this many bytes.
const FREE_BYTES: usize = 256 * 1024;

/// Window that a Zstandard frame may ask for: 8 MiB (RFC 9659).
const WINDOW_LOG: u32 = 23;

/// The largest window of a gzip member: zlib's `windowBits`, without the 16 that stands for the gzip header.
const GZIP_WINDOW_BITS: u8 = 15;

/// Most bytes that are read and written before other requests run: about 0.1 ms.
const STEP_IN: usize = 8 * 1024;
const STEP_OUT: usize = 64 * 1024;

/// How a body was made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
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
pub(crate) fn codings(headers: &HeaderMap) -> Result<Vec<Coding>, ApiError> {
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

/// The most bytes that a compressed body may have. Data that does not compress becomes a little larger.
pub(crate) fn compressed_limit(limit: usize) -> usize {
    limit + limit / 16 + 1_024
}

/// Reverses the codings of a body that is to have at most `limit` bytes.
///
/// # Errors
/// 413 past `limit`, and when it grows out of proportion; 503 when all bodies together take too much memory; 400 when it
/// is not in these codings, ends too early, or is followed by other bytes.
pub(crate) async fn decompress(
    mut body: Bytes,
    codings: &[Coding],
    limit: usize,
    bodies: &BodyLimits,
) -> Result<Bytes, ApiError> {
    let sent = body.len();
    for (inner, coding) in codings.iter().enumerate().rev() {
        // Some clients set the header and send no body.
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

/// The bytes that were decoded so far, and their limits.
struct Output {
    gathered: Held,
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
    /// A member or frame is complete. Only another one may follow.
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
                    // The decoder expects a gzip header again.
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
mod tests;
