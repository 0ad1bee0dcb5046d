//! `CONNECT` (RFC 9110, section 9.3.6).

use std::fmt::Write as _;
use std::net::SocketAddr;

use data_encoding::BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::failed::ProxyFailed;
use super::url::Login;

/// Largest head of a proxy's answer.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Asks for a connection and waits for it.
///
/// # Errors
/// [`ProxyFailed`].
pub(super) async fn ask(
    socket: &mut TcpStream,
    address: SocketAddr,
    login: Option<&Login>,
) -> Result<(), ProxyFailed> {
    let mut request = Zeroizing::new(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n"));
    if let Some(login) = login {
        let pair = Zeroizing::new(format!("{}:{}", login.user.reveal(), login.password.reveal()));
        let _ = write!(
            request,
            "Proxy-Authorization: Basic {}\r\n",
            BASE64.encode(pair.as_bytes())
        );
    }
    request.push_str("\r\n");
    let written = socket.write_all(request.as_bytes()).await;
    written.map_err(ProxyFailed::HungUp)?;
    judge(&head(socket).await?)
}

/// Reads a head and nothing behind it: what follows is the receiver's.
async fn head(socket: &mut TcpStream) -> Result<Vec<u8>, ProxyFailed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD_BYTES {
            return Err(ProxyFailed::Own("answers with too many headers".to_owned()));
        }
        head.push(socket.read_u8().await.map_err(ProxyFailed::HungUp)?);
    }
    Ok(head)
}

/// What the status says. Proxies answer 5xx when they have no connection.
fn judge(head: &[u8]) -> Result<(), ProxyFailed> {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default();
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|word| word.starts_with("HTTP/1."));
    let status = words.next().and_then(|word| word.parse::<u16>().ok());
    match status.filter(|_| is_http) {
        Some(200..=299) => Ok(()),
        Some(401 | 407) => Err(ProxyFailed::Own("wants another user or password".to_owned())),
        Some(403) => Err(ProxyFailed::Denied),
        Some(status @ 500..=599) => Err(ProxyFailed::Unreachable(format!("it answered {status}"))),
        Some(status) => Err(ProxyFailed::Own(format!("answered {status}"))),
        None => Err(ProxyFailed::Own("does not speak HTTP".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_whose_fault_it_is() {
        let told =
            |head: &str| judge(head.as_bytes()).map_err(|failed| (failed.is_own(), failed.to_string()));
        assert_eq!(told("HTTP/1.0 200 Connection established\r\n\r\n"), Ok(()));
        assert_eq!(told("HTTP/1.1 200\r\n\r\n"), Ok(()));
        for status in [401, 407, 400, 404, 405, 429, 302] {
            assert!(
                told(&format!("HTTP/1.1 {status} X\r\n\r\n")).unwrap_err().0,
                "{status}"
            );
        }
        for status in [403, 500, 502, 503, 504] {
            assert!(
                !told(&format!("HTTP/1.1 {status} X\r\n\r\n")).unwrap_err().0,
                "{status}"
            );
        }
        for head in ["", "SSH-2.0 200\r\n", "HTTP/1.1\r\n", "\u{ff} 200"] {
            assert_eq!(
                told(head),
                Err((true, "the egress proxy does not speak HTTP".to_owned())),
                "{head}"
            );
        }
    }
}
