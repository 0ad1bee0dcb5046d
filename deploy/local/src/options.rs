//! What a stack is made of.

use std::path::PathBuf;

use crate::folder::DataFolder;

/// What a stack consists of.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where its data is.
    pub data: DataFolder,
    /// How many `ingest-api` processes.
    pub ingest: usize,
    /// How many `delivery-worker` processes.
    pub workers: usize,
    /// A program whose `main` is [`crate::main`]; this program if absent.
    pub program: Option<PathBuf>,
    /// Environment variables of every `ingest-api`; they win over those that the stack sets.
    pub ingest_env: Vec<(String, String)>,
    /// Environment variables of every `delivery-worker`; they win over those that the stack sets.
    pub worker_env: Vec<(String, String)>,
    /// What starts every `delivery-worker`: a command to which the program and its arguments are appended. Nothing, if
    /// empty.
    pub worker_wrapper: Vec<String>,
    /// The port of the first `ingest-api`, if it is free. Any other port if not, or if absent.
    pub api_port: Option<u16>,
    /// Whether steps that take more than a second are announced on standard error.
    pub progress: bool,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            data: DataFolder::Temporary,
            ingest: 1,
            workers: 1,
            program: None,
            ingest_env: Vec::new(),
            worker_env: Vec::new(),
            worker_wrapper: Vec::new(),
            api_port: None,
            progress: false,
        }
    }
}
