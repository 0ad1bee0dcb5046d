//! A receiver of webhooks that costs next to nothing, and can be told to hang.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

use crate::client::ledger::Ledger;
use crate::client::request::NUMBER_FIELD;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
const FAILURE: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
const CONTENT_LENGTH: &[u8] = b"content-length: ";

/// A receiver on loopback. Its thread ends with the process.
#[derive(Clone, Debug)]
pub(crate) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    hangs: AtomicBool,
    /// Of ten events, how many fail at first.
    failing: AtomicU64,
    /// Those that have failed.
    failed: Mutex<HashSet<u64>>,
    ledgers: Mutex<Vec<Arc<Ledger>>>,
}

impl Sink {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let shared = Arc::<Shared>::default();
        let (bound, address) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name("sink".into()).spawn({
            let shared = shared.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(LocalSet::new().run_until(serve(shared, bound)))
            }
        })?;
        let address = address.await.context("a receiver did not start")?;
        Ok(Self { address, shared })
    }

    /// An address where nobody listens.
    pub(crate) fn refusing() -> Self {
        Self {
            // The discard service, which is not run any more.
            address: (Ipv4Addr::LOCALHOST, 9).into(),
            shared: Arc::default(),
        }
    }

    /// Where it takes webhooks.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Keeps senders waiting for their answers from now on.
    pub(crate) fn hang(&self) {
        self.shared.hangs.store(true, Ordering::Relaxed);
    }

    /// Has the first webhooks of so many of ten events fail.
    pub(crate) fn fail_first(&self, of_ten: u64) {
        self.shared.failing.store(of_ten, Ordering::Relaxed);
    }

    /// Writes the arrivals of this ledger's events into it. Those of former ones go on being written into theirs.
    pub(crate) fn record_in(&self, ledger: &Arc<Ledger>) {
        self.shared.ledgers().push(ledger.clone());
    }
}

impl Shared {
    /// Whether the webhook of an event is to fail: some do, once.
    fn fails(&self, number: u64) -> bool {
        let failed = || self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        number % 10 < self.failing.load(Ordering::Relaxed) && failed().insert(number)
    }

    /// Writes an arrival into the newest ledger that has a place for it.
    fn write_down(&self, number: u64) {
        let ledgers = self.ledgers();
        if let Some(ledger) = ledgers.iter().rev().find(|ledger| ledger.has(number)) {
            ledger.arrived(number);
        }
    }

    fn ledgers(&self) -> MutexGuard<'_, Vec<Arc<Ledger>>> {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(shared: Arc<Shared>, bound: tokio::sync::oneshot::Sender<SocketAddr>) -> std::io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let _ = bound.send(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let shared = shared.clone();
        tokio::task::spawn_local(async move {
            // A sender that goes away is no error here.
            let _ = receive(stream, &shared).await;
        });
    }
}

async fn receive(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Some(length) = whole_request(&buffer) {
            let arrived = memchr::memmem::find(&buffer[..length], NUMBER_FIELD)
                .and_then(|at| buffer[at + NUMBER_FIELD.len()..length].get(..12))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            buffer.drain(..length);
            if shared.hangs.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            if arrived.is_some_and(|number| shared.fails(number)) {
                stream.write_all(FAILURE).await?;
                continue;
            }
            if let Some(number) = arrived {
                shared.write_down(number);
            }
            stream.write_all(ANSWER).await?;
        }
    }
    Ok(())
}

/// The length of the request at the start of the buffer, once all of it is there.
fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = memchr::memmem::find(bytes, b"\r\n\r\n")?;
    let at = memchr::memmem::find(&bytes[..head], CONTENT_LENGTH)? + CONTENT_LENGTH.len();
    let end = memchr::memchr(b'\r', &bytes[at..])?;
    let length: usize = std::str::from_utf8(&bytes[at..at + end]).ok()?.parse().ok()?;
    let whole = head + b"\r\n\r\n".len() + length;
    (bytes.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::request::FIRST_NUMBER;

    #[test]
    fn a_repeat_is_written_into_the_ledger_of_its_event_however_late_it_comes() {
        let sink = Sink::refusing();
        let ledgers = [0, 2].map(|offset| Arc::new(Ledger::new(offset, 2)));
        for ledger in &ledgers {
            sink.record_in(ledger);
        }
        for number in [0, 2, 0, 4] {
            sink.shared.write_down(FIRST_NUMBER + number);
        }
        let written = ledgers.map(|ledger| (ledger.counts().1, ledger.repeated()));
        assert_eq!(written, [(1, 1), (1, 0)]);
    }
}
