//! Who is at the other end of a connection: receivers of every kind, a name server, a collector of traces, and a way that
//! can fall silent.

pub(crate) mod receiver;
pub(crate) mod webhook;
pub(crate) mod sink;
pub(crate) mod raw;
pub(crate) mod http2;
pub(crate) mod dns;
pub(crate) mod link;
pub(crate) mod collector;
