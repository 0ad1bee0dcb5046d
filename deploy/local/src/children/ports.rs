//! Ports on the loopback address that stay ours while the process behind them is down.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as SocketName, UnixListener};
use std::sync::{Mutex, PoisonError};

use shared::secret::random_bytes;

/// Ports below this are for well-known services, which may be started at any time.
const LOWEST: u16 = 10_000;

/// How often another port is tried before giving up.
const TRIES: usize = 1_000;

/// How many ports a server is started on before giving up: another program may take one meanwhile.
pub(crate) const PORT_TRIES: usize = 5;

/// A port that no other stack on this machine takes while this value lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// Held, never used: see [`claim`].
    _claim: UnixListener,
}

impl Port {
    /// This port, if it is free.
    pub(crate) fn exactly(number: u16) -> Option<Self> {
        let claim = claim(number).ok()?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self {
            number,
            _claim: claim,
        })
    }

    /// Any free port. Not one that the kernel gives to outgoing connections: while a server is down, a
    /// client that keeps trying to reach it would sooner or later be given the server's own port, be
    /// connected to itself and keep the server from ever coming back.
    pub(crate) fn free() -> anyhow::Result<Self> {
        let end = first_outgoing_port();
        for _ in 0..TRIES {
            let number = LOWEST + u16::from_ne_bytes(random_bytes()) % (end - LOWEST);
            if let Some(port) = Self::exactly(number) {
                return Ok(port);
            }
        }
        anyhow::bail!("no free port between {LOWEST} and {end}")
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

/// A port on the loopback address at which nobody listens. While this process lives, no stack takes it and the kernel gives it to
/// no outgoing connection, so that a test may start a server there later, or none.
///
/// # Errors
/// When no port is free.
pub fn reserve_port() -> anyhow::Result<u16> {
    static RESERVED: Mutex<Vec<Port>> = Mutex::new(Vec::new());
    let port = Port::free()?;
    let number = port.number();
    RESERVED.lock().unwrap_or_else(PoisonError::into_inner).push(port);
    Ok(number)
}

/// Keeps two stacks, in one process or in two, from choosing the same port before either has bound it
/// or while a test has its server down. An abstract socket is a name without a file: it is gone with
/// its process, however that ends.
fn claim(number: u16) -> std::io::Result<UnixListener> {
    let name = SocketName::from_abstract_name(format!("penstock-port-{number}"))?;
    UnixListener::bind_addr(&name)
}

/// Where the kernel's range for outgoing connections begins.
fn first_outgoing_port() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    // Linux starts at 32 768 unless told otherwise.
    first.filter(|first| *first > LOWEST + 1_000).unwrap_or(32_768)
}

/// The ports of one data folder. A folder that is kept gets the same ports again when they are free,
/// so that a database tool or a bookmark still works tomorrow.
#[derive(Debug, Default)]
pub(crate) struct PortBook {
    remembered: Mutex<BTreeMap<String, u16>>,
    chosen: Mutex<BTreeMap<String, u16>>,
}

impl PortBook {
    pub(crate) fn new(remembered: BTreeMap<String, u16>) -> Self {
        Self {
            remembered: Mutex::new(remembered),
            chosen: Mutex::default(),
        }
    }

    /// The port of the last run under this name if it is free, else another one. Asked again for the
    /// same name it gives another port.
    pub(crate) fn claim(&self, name: &str) -> anyhow::Result<Port> {
        let last = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
        let port = match last.and_then(Port::exactly) {
            Some(port) => port,
            None => Port::free()?,
        };
        self.chosen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.to_owned(), port.number);
        Ok(port)
    }

    /// The ports that were given out, to be remembered.
    pub(crate) fn chosen(&self) -> BTreeMap<String, u16> {
        self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
