//! Which addresses this machine can dial at all.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

/// No packet is sent to it.
const ANY_PORT: u16 = 9;

/// Those of some addresses that this machine can dial. Many containers have no IPv6 address. Dialling one there fails as it does
/// when all ports are in use, which would be this worker's lack, and never the receiver's failure.
///
/// # Errors
/// When none is left.
pub(super) fn dialable(addresses: Vec<SocketAddr>) -> io::Result<Vec<SocketAddr>> {
    dialable_with(addresses, has_source)
}

fn dialable_with(
    mut addresses: Vec<SocketAddr>,
    has_source: impl FnOnce(IpAddr) -> bool,
) -> io::Result<Vec<SocketAddr>> {
    let is_ipv6 = |address: &SocketAddr| address.ip().to_canonical().is_ipv6();
    let one = addresses.iter().copied().find(is_ipv6);
    if one.is_some_and(|one| !has_source(one.ip())) {
        addresses.retain(|address| !is_ipv6(address));
        if addresses.is_empty() {
            let reason = "this worker has no IPv6 address";
            return Err(io::Error::new(io::ErrorKind::NetworkUnreachable, reason));
        }
    }
    Ok(addresses)
}

/// Whether this machine has an address from which it could send to that one. The system only chooses it, and sends nothing.
fn has_source(address: IpAddr) -> bool {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0));
    let chosen = socket.and_then(|socket| socket.connect((address, ANY_PORT)));
    !chosen.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use shared::domain::delivery::Outcome;

    use super::super::failure::Failure;
    use super::*;

    #[test]
    fn without_an_ipv6_address_only_the_others_are_dialled() {
        let texts = ["[2606:4700::1111]:0", "8.8.8.8:0", "[::ffff:8.8.4.4]:0"];
        let all: [SocketAddr; 3] = texts.map(|text| text.parse().unwrap());
        let found = |has_source| dialable_with(all.to_vec(), |_| has_source).unwrap();
        assert_eq!(found(true), all);
        assert_eq!(found(false), all[1..]);
    }

    #[test]
    fn a_receiver_that_has_no_other_address_has_failed_and_no_port_is_lacked() {
        let address = "[2606:4700::1111]:443".parse().unwrap();
        let error = dialable_with(vec![address], |_| false).unwrap_err();
        let failure = Failure::Connect(error.into());
        assert_eq!((failure.lack(), failure.outcome()), (None, Outcome::Connect));
        assert_eq!(
            failure.describe(),
            "cannot connect: this worker has no IPv6 address"
        );
    }
}
