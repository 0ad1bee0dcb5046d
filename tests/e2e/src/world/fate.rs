//! What became of an event between its 202 and the tables, as the services' logs tell it at the level
//! [`LOG`].

use shared::domain::id::EventId;
use std::fmt::Write as _;

use super::World;

/// `RUST_LOG` of services whose logs name the frames.
pub const LOG: &str =
    "info,async_nats=warn,ingest_api::publish::lane=debug,delivery_worker::intake::consume::acks=debug";

/// What the services log of frames, and what it means.
const TOLD: [(&str, &str); 4] = [
    ("a frame is stored", "stored by"),
    ("frames came", "handed out to"),
    ("frames are acknowledged", "acknowledged by"),
    ("took in a frame that its consumer had passed over", "removed by"),
];

/// The name of a process, and all that it has logged.
pub(crate) type Log = (String, String);

/// One line that names a frame.
struct Line<'a> {
    time: &'a str,
    who: &'a str,
    did: &'static str,
    stream: &'a str,
    sequences: &'a str,
    events: &'a str,
}

impl<'a> Line<'a> {
    fn read(who: &'a str, line: &'a str) -> Option<Self> {
        let (_, did) = TOLD.iter().find(|(text, _)| line.contains(text))?;
        Some(Self {
            time: line.split_whitespace().next().unwrap_or_default(),
            who,
            did,
            stream: field(line, "stream"),
            sequences: match field(line, "sequence") {
                "" => field(line, "sequences"),
                one => one,
            },
            events: field(line, "events"),
        })
    }

    fn names(&self, stream: &str, sequence: &str) -> bool {
        self.stream == stream && self.sequences.split(' ').any(|one| one == sequence)
    }
}

/// The field's value without quotation marks; empty when it is not there.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let start = format!(" {name}=");
    let Some((_, value)) = line.split_once(&start) else {
        return "";
    };
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().unwrap_or_default(),
        None => value.split(' ').next().unwrap_or_default(),
    }
}

/// Names the frame of an event, its place, and everything that was done with that place, in the order of time.
pub fn fate(logs: &[Log], id: EventId) -> String {
    let lines = logs
        .iter()
        .flat_map(|(who, log)| log.lines().filter_map(|line| Line::read(who, line)));
    let mut lines: Vec<_> = lines.collect();
    lines.sort_by_key(|line| line.time);
    let id = id.to_string();
    let Some(stored) = lines.iter().find(|line| line.events.contains(&id)) else {
        return "no frame with it was acknowledged to an ingest-api".to_owned();
    };
    let (stream, sequence) = (stored.stream, stored.sequences);
    let mut told = format!("frame {sequence} of {stream}");
    for line in lines.iter().filter(|line| line.names(stream, sequence)) {
        let other = if line.events.is_empty() || line.events.contains(&id) {
            ""
        } else {
            "another frame of that number "
        };
        let _ = write!(told, ", {other}{} {} at {}", line.did, line.who, line.time);
    }
    if !lines
        .iter()
        .any(|line| line.did == "handed out to" && line.names(stream, sequence))
    {
        told += ", handed out to no worker";
    }
    told
}

impl World {
    /// What the logs say of an event. They say nothing of frames unless [`LOG`] is the services' `RUST_LOG`.
    pub fn fate(&self, id: EventId) -> String {
        let services = self.stack().services();
        let logs: Vec<Log> = services
            .map(|service| (service.name().to_owned(), service.log()))
            .collect();
        fate(&logs, id)
    }
}
