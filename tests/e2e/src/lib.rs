//! The harness of the end-to-end tests. A test starts a [`World`] (real processes on a real nats-server and a
//! real Postgres), comes in over HTTP, looks at its [`Receiver`]s and at the tables, and ends with
//! [`World::finish`], which checks what must hold after every test.

mod world;
mod wait;
mod contract;
mod load;
mod flow;
mod servers;
mod hostile;
mod clock;
mod history;
mod transcript;
mod skip;

pub use clock::{is_time, with_wrong_clock};
pub use contract::Client;
pub use flow::{Answered, Flow, Outcome};
pub use history::{History, Ordered, Verdict};
pub use hostile::{hostile_filter, hostile_payload};
pub use load::{Load, Sent};
pub use penstock_local::{Namespace, NatsOptions, NatsSync, Process, Replica, Shutdown, Signal, Stack};
pub use servers::collector::{CollectedSpan, Collector};
pub use servers::dns::NameServer;
pub use servers::http2::{Frame, Http2Peer, Tls, frame};
pub use servers::link::Link;
pub use servers::raw::{RawReceiver, read_request};
pub use servers::receiver::Receiver;
pub use servers::sink::{Manners, Sink};
pub use servers::webhook::{Answer, Body, Receipt, Webhook};
pub use skip::skip;
pub use transcript::{transcript, transcript_with};
pub use wait::{DEADLINE, until, until_within};
pub use world::api::{Endpoint, Event, Organization, Producer, accepted};
pub use world::fate::{LOG, fate};
pub use world::processes::STOP_DEADLINE;
pub use world::stream::new_event;
pub use world::tables::{Attempt, Delivery};
pub use world::{Setup, World};
