//! hyper answers a request that it cannot read with a bare status. A problem (RFC 9457) is written in its place, as for
//! every other error.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::http::StatusCode;
use tokio::io::AsyncWrite;

use crate::server::rules::{PROBLEM_JSON, problem};

/// No bare refusal is longer.
const MAX_BYTES: usize = 256;

/// An answer that is written in place of another one.
#[derive(Debug)]
pub(super) struct Problem {
    bytes: Vec<u8>,
    written: usize,
    /// Bytes of the other one.
    stands_for: usize,
}

impl Problem {
    /// The answer to write instead of these bytes: the one that was begun, or a new one if they are a bare refusal.
    pub(super) fn instead_of<'a>(
        slices: &[IoSlice<'_>],
        begun: &'a mut Option<Self>,
    ) -> Option<&'a mut Self> {
        if begun.is_none() {
            let mut slices = slices.iter().filter(|slice| !slice.is_empty());
            if let (Some(bytes), None) = (slices.next(), slices.next()) {
                *begun = Self::for_refusal(bytes);
            }
        }
        begun
            .as_mut()
            .filter(|problem| problem.written < problem.bytes.len())
    }

    fn for_refusal(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_BYTES || !bytes.starts_with(b"HTTP/1.1 4") {
            return None;
        }
        let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let is_bare = |line: &str| {
            matches!(line, "connection: close" | "content-length: 0") || line.starts_with("date: ")
        };
        if !lines.all(is_bare) {
            return None;
        }
        let body = problem(status, detail(status));
        let head = head.replace("content-length: 0", &format!("content-length: {}", body.len()));
        Some(Self {
            bytes: format!("{head}\r\ncontent-type: {PROBLEM_JSON}\r\n\r\n{body}").into_bytes(),
            written: 0,
            stands_for: bytes.len(),
        })
    }

    /// Writes it to its end, and says how much of the other one that is.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        while self.written < self.bytes.len() {
            let rest = &self.bytes[self.written..];
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Poll::Ready(Ok(self.stands_for))
    }
}

fn detail(status: StatusCode) -> &'static str {
    match status {
        StatusCode::URI_TOO_LONG => "the request's target is too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "the request's headers are too large",
        _ => "the request cannot be read: it is not HTTP, or its body's length is not certain",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instead_of(text: &str) -> Option<String> {
        let problem = Problem::for_refusal(text.as_bytes())?;
        assert_eq!(problem.stands_for, text.len());
        Some(String::from_utf8(problem.bytes).unwrap())
    }

    #[test]
    fn a_bare_refusal_becomes_a_problem_and_nothing_else_does() {
        let bare = "HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";
        let problem = instead_of(bare).unwrap();
        let (head, body) = problem.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
        assert!(head.contains("content-type: application/problem+json"), "{head}");
        assert!(body.contains(r#""status":431"#), "{body}");
        for other in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
        ] {
            assert_eq!(instead_of(other), None, "{other}");
        }
    }
}
