//! A whole Penstock that is measured, with an organisation whose limits are out of the way.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_nats::jetstream;
use data_encoding::BASE64;
use penstock_local::{NatsOptions, NatsSync, Process, Stack, StackOptions};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::domain::id::{EndpointId, OrgId};
use shared::secret::{SecretsKey, random_bytes};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::client::request::Request;
use crate::sink::Sink;
use crate::usage::{POSTGRES, Watched};

/// A million requests a second: checked like any other limit, and never reached.
const REQUESTS_PER_MINUTE: u32 = 60_000_000;

/// How long workers may take to store what waits.
const PATIENCE: Duration = Duration::from_secs(120);

/// Room for all events of one measurement of `ingest-api` alone, in all streams together.
const STREAM_BYTES: u32 = 4_000_000_000;

/// What a [`Site`] consists of.
#[derive(Clone, Debug)]
pub(crate) struct SiteOptions {
    pub(crate) sync: NatsSync,
    pub(crate) ingest: usize,
    pub(crate) workers: usize,
    /// nats-servers, and replicas of each stream.
    pub(crate) nats_nodes: u8,
    /// Event streams.
    pub(crate) streams: u32,
    /// Another build of this program, to be the services.
    pub(crate) program: Option<PathBuf>,
}

impl SiteOptions {
    /// One replica of each service, as shipped.
    pub(crate) const WHOLE: Self = Self {
        sync: NatsSync::Always,
        ingest: 1,
        workers: 1,
        nats_nodes: 1,
        streams: 1,
        program: None,
    };

    /// No worker.
    pub(crate) const INGEST: Self = Self {
        workers: 0,
        ..Self::WHOLE
    };
}

/// A stack, one organisation and its key.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) stack: Stack,
    pub(crate) database: PgPool,
    pub(crate) secrets_key: SecretsKey,
    pub(crate) org_id: OrgId,
    key: String,
    jetstream: jetstream::Context,
    http: reqwest::Client,
    workers: usize,
    streams: u32,
}

impl Site {
    pub(crate) async fn start(options: &SiteOptions) -> anyhow::Result<Self> {
        let secret = BASE64.encode(&random_bytes::<32>());
        let env = |more: &[(&str, &str)]| {
            let more = more
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            more.chain([("SECRETS_KEY".to_owned(), secret.clone())]).collect()
        };
        let stack = StackOptions {
            ingest: options.ingest,
            workers: options.workers,
            nats: NatsOptions {
                sync: options.sync,
                nodes: options.nats_nodes.into(),
                ..NatsOptions::default()
            },
            program: options.program.clone(),
            ingest_env: env(&[
                ("EVENT_STREAMS", &options.streams.to_string()),
                (
                    "EVENT_STREAM_MAX_BYTES",
                    &(STREAM_BYTES / options.streams).to_string(),
                ),
                ("EVENT_STREAM_REPLICAS", &options.nats_nodes.to_string()),
            ]),
            worker_env: env(&[]),
            ..StackOptions::default()
        };
        let stack = Box::pin(Stack::start(stack)).await?;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        let database = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy(stack.database_url())?;
        let jetstream = jetstream::new(async_nats::connect(stack.nats_url()).await?);
        let (org_id, key) = make_organization(&stack, &http).await?;
        Ok(Self {
            stack,
            database,
            secrets_key: secret.parse()?,
            org_id,
            key,
            jetstream,
            http,
            workers: options.workers,
            streams: options.streams,
        })
    }

    /// Where every `ingest-api` takes requests.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        let services = self.stack.services().filter(|service| is_ingest(service));
        let address = |url: String| url.trim_start_matches("http://").parse().ok();
        services.filter_map(|service| address(service.url())).collect()
    }

    /// A request with one event.
    pub(crate) fn event(&self, event_type: &str) -> Request {
        Request::single(&self.key, event_type)
    }

    /// A request with one event that has another field, such as an ordering key.
    pub(crate) fn event_with(&self, event_type: &str, field: &str, value: &str) -> Request {
        Request::with_field(&self.key, event_type, field, value)
    }

    /// A request of the organisation with a body, which succeeds.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.stack.ingest(0).url());
        self.call(self.http.post(url).json(body)).await
    }

    /// What the organisation is shown.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.stack.ingest(0).url());
        self.call(self.http.get(url)).await
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response = request.bearer_auth(&self.key).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// A request with many events.
    pub(crate) fn batch(&self, count: u64) -> Request {
        Request::batch(&self.key, count)
    }

    /// Its processes.
    pub(crate) fn watched(&self) -> Vec<Watched> {
        let services = self.stack.services().map(|service| {
            let name = if is_ingest(service) { "server" } else { "worker" };
            (name, service.pid())
        });
        let nats = self.stack.nats_nodes().iter().map(|nats| ("nats", nats.pid()));
        let postgres = [(POSTGRES, self.stack.postgres().pid())];
        let processes = services.chain(nats).chain(postgres);
        processes
            .filter_map(|(name, pid)| Some(Watched { name, pid: pid? }))
            .chain([Watched::this_program()])
            .collect()
    }

    pub(crate) fn ingest_pid(&self) -> anyhow::Result<u32> {
        self.stack.ingest(0).pid().context("ingest-api does not run")
    }

    pub(crate) fn worker_pid(&self) -> anyhow::Result<u32> {
        self.stack.worker(0).pid().context("no worker runs")
    }

    /// Empties the event streams; where there is a worker, it does.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        if self.workers == 0 {
            for number in 0..self.streams {
                let stream = self.jetstream.get_stream(shared::wire::stream::name(number));
                stream.await?.purge().await?;
            }
            return Ok(());
        }
        until_none("frames are not stored", async || self.frames().await).await
    }

    /// Waits until every event is stored and no delivery is pending: then no webhook comes any more.
    pub(crate) async fn until_delivered(&self) -> anyhow::Result<()> {
        self.settle().await?;
        until_none("deliveries are pending", async || {
            let query = sqlx::query_scalar("select count(*) from deliveries where status = 'pending'");
            let pending: i64 = query.fetch_one(&self.database).await?;
            Ok(pending.unsigned_abs())
        })
        .await
    }

    /// Frames that no worker has stored yet.
    pub(crate) async fn frames(&self) -> anyhow::Result<u64> {
        let mut frames = 0;
        for number in 0..self.streams {
            let stream = self.jetstream.get_stream(shared::wire::stream::name(number));
            frames += stream.await?.info().await?.state.messages;
        }
        Ok(frames)
    }

    /// Makes an endpoint for one event type; `fields` are further ones of the API.
    pub(crate) async fn endpoint(
        &self,
        sink: &Sink,
        event_type: &str,
        fields: Value,
    ) -> anyhow::Result<EndpointId> {
        #[derive(Deserialize)]
        struct Created {
            id: EndpointId,
        }
        let mut body = json!({"url": sink.url(), "event_types": [event_type]});
        if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
            body.extend(fields);
        }
        let path = format!("/{}/endpoints", self.org_id);
        let created: Created = create(&self.stack, &self.http, &path, &body).await?;
        Ok(created.id)
    }

    /// Stops everything.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.database.close().await;
        self.stack.stop().await
    }
}

async fn until_none(what: &str, left: impl AsyncFn() -> anyhow::Result<u64>) -> anyhow::Result<()> {
    let started = Instant::now();
    while left().await? > 0 {
        ensure!(started.elapsed() < PATIENCE, "{what} after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn is_ingest(process: &Process) -> bool {
    process.name().starts_with("ingest-api")
}

async fn make_organization(stack: &Stack, http: &reqwest::Client) -> anyhow::Result<(OrgId, String)> {
    #[derive(Deserialize)]
    struct Created {
        id: OrgId,
    }
    #[derive(Deserialize)]
    struct Key {
        key: String,
    }
    let limits = json!({"name": "load", "tier": "enterprise", "rate_limit_per_minute": REQUESTS_PER_MINUTE});
    let created: Created = create(stack, http, "", &limits).await?;
    let path = format!("/{}/keys", created.id);
    let key: Key = create(stack, http, &path, &json!({"name": "load"})).await?;
    Ok((created.id, key.key))
}

async fn create<T: for<'de> Deserialize<'de>>(
    stack: &Stack,
    http: &reqwest::Client,
    path: &str,
    body: &Value,
) -> anyhow::Result<T> {
    let url = format!("{}/admin/v1/organizations{path}", stack.ingest(0).url());
    let request = http.post(&url).bearer_auth(stack.admin_token()).json(body);
    let response = request.send().await?;
    let (status, text) = (response.status(), response.text().await?);
    ensure!(status == StatusCode::CREATED, "{url} answers {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
