//! What ingest-api does with requests and connections, whatever they are about.

mod browsers;
pub(crate) mod contract;
mod edges;
mod generated;
pub(crate) mod hostile;
mod large;
pub(crate) mod openapi;
mod pieces;
