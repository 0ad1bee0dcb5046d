//! A name server that answers as a test tells it to.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Length of a message's header.
const HEADER: usize = 12;

/// Record types.
const A: u16 = 1;
const AAAA: u16 = 28;

/// Answers with addresses that no one may keep. It ends when it is dropped.
#[derive(Debug)]
pub struct NameServer {
    _server: JoinSet<()>,
}

impl NameServer {
    /// Listens at port 53 of `address`. `zone` tells the addresses of a name, and is told how often that name was
    /// asked for with this record type before; a name without any does not exist, and one with nothing gets no answer.
    ///
    /// # Errors
    /// When the port is not to be had.
    pub async fn start(
        address: IpAddr,
        zone: impl Fn(&str, usize) -> Option<Vec<IpAddr>> + Send + 'static,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((address, 53)).await?;
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut asked = HashMap::new();
            let mut buffer = [0; 512];
            loop {
                let (length, client) = socket
                    .recv_from(&mut buffer)
                    .await
                    .expect("loopback does not fail");
                if let Some(question) = Question::read(&buffer[..length]) {
                    let before: &mut usize =
                        asked.entry((question.name.clone(), question.record)).or_default();
                    if let Some(addresses) = zone(&question.name, *before) {
                        // A client that is gone asks again.
                        let _ = socket.send_to(&question.answer(&addresses), client).await;
                    }
                    *before += 1;
                }
            }
        });
        Ok(Self { _server: server })
    }
}

struct Question<'a> {
    id: &'a [u8],
    name: String,
    record: u16,
    /// The question as it came.
    bytes: &'a [u8],
}

impl<'a> Question<'a> {
    fn read(message: &'a [u8]) -> Option<Self> {
        let mut labels = Vec::new();
        let mut rest = message.get(HEADER..)?;
        loop {
            let (&length, after) = rest.split_first()?;
            if length == 0 {
                rest = after;
                break;
            }
            let (label, after) = after.split_at_checked(length.into())?;
            labels.push(std::str::from_utf8(label).ok()?);
            rest = after;
        }
        let (record, rest) = rest.split_first_chunk::<2>()?;
        let end = message.len() - rest.get(2..)?.len();
        Some(Self {
            id: &message[..2],
            name: labels.join("."),
            record: u16::from_be_bytes(*record),
            bytes: &message[HEADER..end],
        })
    }

    /// A response, recursion available, with a record for each address of the type that was asked for.
    fn answer(&self, addresses: &[IpAddr]) -> Vec<u8> {
        const NAME_ERROR: u8 = 3;
        let records: Vec<_> = addresses
            .iter()
            .filter_map(|address| self.record(*address))
            .collect();
        let code = if addresses.is_empty() { NAME_ERROR } else { 0 };
        let mut answer = self.id.to_vec();
        answer.extend([0x81, 0x80 | code, 0, 1, 0]);
        answer.push(records.len().try_into().expect("a test has few addresses"));
        answer.extend([0; 4]);
        answer.extend_from_slice(self.bytes);
        answer.extend(records.concat());
        answer
    }

    fn record(&self, address: IpAddr) -> Option<Vec<u8>> {
        let data = match (address, self.record) {
            (IpAddr::V4(address), A) => address.octets().to_vec(),
            (IpAddr::V6(address), AAAA) => address.octets().to_vec(),
            _ => return None,
        };
        // A pointer to the name in the question, the type, the class, no time to live.
        let mut record = vec![0xc0, HEADER.try_into().ok()?];
        record.extend(self.record.to_be_bytes());
        record.extend([0, 1, 0, 0, 0, 0, 0]);
        record.push(data.len().try_into().ok()?);
        record.extend(data);
        Some(record)
    }
}
