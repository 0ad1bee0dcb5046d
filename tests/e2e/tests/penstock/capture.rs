//! A receiver that keeps whole requests, whoever signed them, and answers as a test tells it to.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use e2e::until;
use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Captured {
    pub method: Method,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Captured {
    /// A header that was sent.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("no {name}"));
        value.to_str().expect("headers are ASCII")
    }

    /// All headers.
    pub(crate) fn headers(&self) -> Value {
        let pairs = self.headers.keys().map(|name| {
            let name = name.as_str();
            (name.to_owned(), self.header(name).into())
        });
        Value::Object(pairs.collect::<Map<_, _>>())
    }
}

type Requests = Arc<Mutex<Vec<Captured>>>;

/// Keeps requests and ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Capture {
    address: SocketAddr,
    requests: Requests,
    _server: JoinSet<()>,
}

impl Capture {
    /// One that answers 204.
    pub(crate) async fn start() -> Self {
        Self::answering(|_| StatusCode::NO_CONTENT).await
    }

    /// One that answers as a test says.
    pub(crate) async fn answering(
        answer: impl Fn(&Captured) -> StatusCode + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port on loopback");
        let address = listener.local_addr().expect("a bound socket has an address");
        let requests = Requests::default();
        let kept = requests.clone();
        let receive = async move |method, headers, body| {
            let request = Captured {
                method,
                headers,
                body,
            };
            let status = answer(&request);
            kept.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            status
        };
        let mut server = JoinSet::new();
        server.spawn(async move {
            let ended = axum::serve(listener, Router::new().fallback(receive)).await;
            ended.expect("accepting connections does not fail");
        });
        Self {
            address,
            requests,
            _server: server,
        }
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What has come so far.
    pub(crate) fn requests(&self) -> Vec<Captured> {
        let requests = self.requests.lock();
        requests.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests have come.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Captured> {
        until(&format!("{count} requests"), async || {
            let requests = self.requests();
            if requests.len() >= count {
                Ok(requests)
            } else {
                Err(requests.len().to_string())
            }
        })
        .await
    }
}

/// A port at which nobody listens, and that nobody else is given meanwhile.
pub(crate) fn free_port() -> u16 {
    penstock_local::reserve_port().expect("there is a free port on loopback")
}

/// What a program prints that reads a body.
pub(crate) async fn output(command: &mut Command, body: &[u8]) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program is there: it installed the packages");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(body).await.expect("it reads all");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
