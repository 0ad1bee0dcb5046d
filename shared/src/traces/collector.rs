//! The way to the collector.

use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::HeaderMap;
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::time::timeout;
use url::Url;

/// Most bytes that are read of an answer: it says little.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Sends to a collector.
#[derive(Debug)]
pub(super) struct Collector {
    client: Client,
    headers: HeaderMap,
    timeout: Duration,
}

/// Without TLS no authorities are looked for on this machine.
#[derive(Debug)]
enum Client {
    Plain(legacy::Client<HttpConnector, Full<Bytes>>),
    Tls(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Collector {
    /// To the host of a URL, with these headers. Each request has this much time.
    ///
    /// # Errors
    /// When the system has no trusted certificates, and the URL needs them.
    pub(super) fn new(url: &Url, headers: HeaderMap, timeout: Duration) -> anyhow::Result<Self> {
        let builder = legacy::Client::builder(TokioExecutor::new());
        let client = if url.scheme() == "https" {
            let connector = HttpsConnectorBuilder::new()
                .with_provider_and_platform_verifier(rustls::crypto::ring::default_provider())
                .context("cannot load the system's trusted certificates")?;
            Client::Tls(builder.build(connector.https_only().enable_http1().build()))
        } else {
            Client::Plain(builder.build(HttpConnector::new()))
        };
        Ok(Self {
            client,
            headers,
            timeout,
        })
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError> {
        let response = match &self.client {
            Client::Plain(client) => client.request(request).await?,
            Client::Tls(client) => client.request(request).await?,
        };
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        for (name, value) in &self.headers {
            request.headers_mut().insert(name.clone(), value.clone());
        }
        timeout(self.timeout, self.send(request.map(Full::new))).await?
    }
}
