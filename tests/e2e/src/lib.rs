//! The harness of the end-to-end tests. A test starts a [`World`] (real processes on a real nats-server and a
//! real Postgres), comes in over HTTP, looks at its [`Receiver`]s and at the tables, and ends with
//! [`World::finish`], which checks what must hold after every test.

mod world;
mod finish;
mod wait;
mod api;
mod contract;
mod load;
mod flow;
mod receiver;
mod sink;
mod raw;
mod http2;
mod dns;
mod link;
mod hostile;
mod webhook;
mod tables;
mod stream;
mod metrics;
mod clock;
mod history;
mod fate;
mod transcript;

pub use api::{Endpoint, Event, Organization, Producer, accepted};
pub use clock::with_wrong_clock;
pub use contract::Client;
pub use dns::NameServer;
pub use fate::{LOG, fate};
pub use flow::{Answered, Flow, Outcome};
pub use history::{History, Verdict};
pub use hostile::{hostile_filter, hostile_payload};
pub use http2::{Frame, Http2Peer, Tls, frame};
pub use link::Link;
pub use load::{Load, Sent};
pub use penstock_local::{Namespace, NatsOptions, NatsSync, Process, Replica, Shutdown, Signal, Stack};
pub use raw::{RawReceiver, read_request};
pub use receiver::Receiver;
pub use sink::{Manners, Sink};
pub use stream::new_event;
pub use tables::{Attempt, Delivery};
pub use transcript::{transcript, transcript_with};
pub use wait::{DEADLINE, until, until_within};
pub use webhook::{Answer, Body, Receipt, Webhook};
pub use world::{STOP_DEADLINE, Setup, World};
