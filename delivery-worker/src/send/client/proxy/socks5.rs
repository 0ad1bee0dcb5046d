//! SOCKS5 (RFC 1928), with user and password (RFC 1929).

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::failed::ProxyFailed;
use super::url::Login;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;

/// Ways to show who one is.
const NOBODY: u8 = 0;
const LOGIN: u8 = 2;
const NONE_OF_THEM: u8 = 0xff;

const CONNECT: u8 = 1;

/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Says who this worker is.
///
/// # Errors
/// [`ProxyFailed`].
pub(super) async fn greet(socket: &mut TcpStream, login: Option<&Login>) -> Result<(), ProxyFailed> {
    let ways: &[u8] = if login.is_some() {
        &[VERSION, 2, NOBODY, LOGIN]
    } else {
        &[VERSION, 1, NOBODY]
    };
    send(socket, ways).await?;
    match (read::<2>(socket).await?, login) {
        ([VERSION, NOBODY], _) => Ok(()),
        ([VERSION, LOGIN], Some(login)) => log_in(socket, login).await,
        ([VERSION, NONE_OF_THEM], _) => Err(own("wants another user or password")),
        _ => Err(own("does not speak SOCKS5")),
    }
}

async fn log_in(socket: &mut TcpStream, login: &Login) -> Result<(), ProxyFailed> {
    let mut message = Zeroizing::new(vec![LOGIN_VERSION]);
    for part in [&login.user, &login.password] {
        let bytes = part.reveal().as_bytes();
        let length = u8::try_from(bytes.len()).map_err(|_| own("takes no such long user or password"))?;
        message.push(length);
        message.extend_from_slice(bytes);
    }
    send(socket, &message).await?;
    match read::<2>(socket).await {
        Ok([_, 0]) => Ok(()),
        // Many hang up on a wrong password.
        Ok(_) | Err(_) => Err(own("wants another user or password")),
    }
}

/// Asks for a connection and waits for it.
///
/// # Errors
/// [`ProxyFailed`].
pub(super) async fn ask(socket: &mut TcpStream, address: SocketAddr) -> Result<(), ProxyFailed> {
    let mut message = vec![VERSION, CONNECT, 0];
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            message.push(IPV4);
            message.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            message.push(IPV6);
            message.extend(ip.octets());
        }
    }
    message.extend(address.port().to_be_bytes());
    send(socket, &message).await?;
    let [version, reply, _, kind] = read(socket).await?;
    if version != VERSION {
        return Err(own("does not speak SOCKS5"));
    }
    judge(reply)?;
    // The proxy's own address, which does not matter.
    match kind {
        IPV4 => read::<6>(socket).await.map(drop),
        IPV6 => read::<18>(socket).await.map(drop),
        NAME => {
            let [length] = read(socket).await?;
            let mut rest = vec![0; usize::from(length) + 2];
            let rest = socket.read_exact(&mut rest).await;
            rest.map(drop).map_err(ProxyFailed::HungUp)
        }
        _ => Err(own("does not speak SOCKS5")),
    }
}

/// What a reply says.
fn judge(reply: u8) -> Result<(), ProxyFailed> {
    let reason = match reply {
        0 => return Ok(()),
        2 => return Err(ProxyFailed::Denied),
        1 => "general failure",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "its packets take too long",
        8 => "no such kind of address",
        _ => return Err(own("cannot make connections")),
    };
    Err(ProxyFailed::Unreachable(reason.to_owned()))
}

fn own(reason: &str) -> ProxyFailed {
    ProxyFailed::Own(reason.to_owned())
}

async fn send(socket: &mut TcpStream, message: &[u8]) -> Result<(), ProxyFailed> {
    socket.write_all(message).await.map_err(ProxyFailed::HungUp)
}

async fn read<const N: usize>(socket: &mut TcpStream) -> Result<[u8; N], ProxyFailed> {
    let mut bytes = [0; N];
    let read = socket.read_exact(&mut bytes).await;
    read.map(|_| bytes).map_err(ProxyFailed::HungUp)
}
