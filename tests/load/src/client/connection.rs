//! An HTTP/1.1 client that does only what the measurements need: it shares the machine with what is measured.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::client::request::Request;

/// Searches that are prepared once: preparing one costs more than searching a few hundred bytes.
static END_OF_HEAD: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));
static CONTENT_LENGTH: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"content-length: "));

/// The status that tells that an event was accepted.
pub(crate) const ACCEPTED: u16 = 202;

/// A connection on which one request follows another.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(64 * 1024),
        })
    }

    /// Sends a request and reads its answer to the end; returns the status.
    pub(crate) async fn exchange(&mut self, request: &Request) -> io::Result<u16> {
        self.stream.write_all(request.as_bytes()).await?;
        self.buffer.clear();
        loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            if let Some(status) = whole_answer(&self.buffer)? {
                return Ok(status);
            }
        }
    }
}

/// The status of an answer, once all of it is there.
fn whole_answer(bytes: &[u8]) -> io::Result<Option<u16>> {
    let Some(head) = END_OF_HEAD.find(bytes) else {
        return Ok(None);
    };
    let unreadable = || io::Error::new(ErrorKind::InvalidData, "an answer that is not HTTP/1.1");
    let number = |digits: Option<&[u8]>| std::str::from_utf8(digits?).ok()?.parse::<usize>().ok();
    // `HTTP/1.1 202 …`
    let status = number(bytes.get(9..12)).ok_or_else(unreadable)?;
    let length = match CONTENT_LENGTH.find(&bytes[..head]) {
        None => 0,
        Some(at) => {
            let digits = &bytes[at + CONTENT_LENGTH.needle().len()..];
            let end = memchr::memchr(b'\r', digits);
            number(end.map(|end| &digits[..end])).ok_or_else(unreadable)?
        }
    };
    let is_whole = bytes.len() >= head + b"\r\n\r\n".len() + length;
    Ok(is_whole.then_some(u16::try_from(status).map_err(|_| unreadable())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let answer = b"HTTP/1.1 202 Accepted\r\ncontent-length: 3\r\n\r\nabc";
        for cut in 0..answer.len() {
            assert_eq!(whole_answer(&answer[..cut]).unwrap(), None, "{cut}");
        }
        assert_eq!(whole_answer(answer).unwrap(), Some(202));
        assert_eq!(
            whole_answer(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(),
            Some(204)
        );
        assert!(whole_answer(b"HTTP/1.1 two\r\n\r\n").is_err());
    }
}
