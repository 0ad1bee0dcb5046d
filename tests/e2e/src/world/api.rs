//! What producers and operators do over HTTP.

use reqwest::{Body, Response, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::domain::id::{EndpointId, EventId, OrgId};

use super::World;
use crate::contract::Client;
use crate::servers::receiver::Receiver;

/// How long an attempt may take at endpoints that the harness creates.
const ENDPOINT_TIMEOUT_MS: u32 = 3_000;

/// An organisation and a key with all scopes.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Its id.
    pub id: OrgId,
    /// Its key.
    pub key: String,
}

/// An endpoint at a [`Receiver`].
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
}

/// What a producer sends.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its type.
    pub kind: String,
    /// JSON text that reaches the receiver as it stands here.
    pub data: String,
    /// What makes a repeat a repeat, in the body.
    pub idempotency_key: Option<String>,
    /// Whose event it is.
    pub tenant: Option<String>,
    /// What keeps it behind earlier events with the same one, at ordered endpoints.
    pub ordering_key: Option<String>,
}

impl Event {
    /// An event without an idempotency key.
    pub fn new(kind: &str, data: impl Into<String>) -> Self {
        Self {
            kind: kind.to_owned(),
            data: data.into(),
            idempotency_key: None,
            tenant: None,
            ordering_key: None,
        }
    }

    /// The same with what makes a repeat a repeat.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// The same of a tenant, or of none.
    #[must_use]
    pub fn of_tenant<'a>(mut self, uid: impl Into<Option<&'a str>>) -> Self {
        self.tenant = uid.into().map(str::to_owned);
        self
    }

    /// The same with an ordering key, or without one.
    #[must_use]
    pub fn with_ordering_key(mut self, key: Option<String>) -> Self {
        self.ordering_key = key;
        self
    }

    /// The request's body, with `data` in it byte for byte.
    pub fn body(&self) -> String {
        let field = |name: &str, value: &Option<String>| {
            let value = value.as_ref();
            value.map_or_else(String::new, |value| format!(r#","{name}":{}"#, json!(value)))
        };
        let key = field("idempotency_key", &self.idempotency_key);
        let tenant = field("tenant", &self.tenant);
        let order = field("ordering_key", &self.ordering_key);
        format!(
            r#"{{"type":{},"data":{}{key}{tenant}{order}}}"#,
            json!(self.kind),
            self.data
        )
    }
}

/// Someone who calls one `ingest-api` with one key.
#[derive(Clone, Debug)]
pub struct Producer {
    http: Client,
    url: String,
    key: String,
}

impl Producer {
    /// `POST` with the key and nothing else.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http
            .post(format!("{}{path}", self.url))
            .bearer_auth(&self.key)
    }

    /// `POST /v1/events` with a body that is said to be JSON.
    pub fn post_event(&self, body: impl Into<Body>) -> RequestBuilder {
        let request = self.post("/v1/events").body(body);
        request.header("content-type", "application/json")
    }

    /// Sends an event and returns whatever comes back.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_send(&self, event: &Event) -> reqwest_middleware::Result<Response> {
        self.post_event(event.body()).send().await
    }

    /// Sends an event, which must be accepted, and returns its id.
    pub async fn send(&self, event: &Event) -> EventId {
        let answer = self.try_send(event).await;
        accepted(answer.expect("ingest-api answers")).await
    }
}

/// The id in a 202.
///
/// # Panics
/// When the answer is another one.
pub async fn accepted(response: Response) -> EventId {
    #[derive(Deserialize)]
    struct Accepted {
        id: EventId,
    }
    read::<Accepted>(response, StatusCode::ACCEPTED).await.id
}

async fn read<T: DeserializeOwned>(response: Response, expected: StatusCode) -> T {
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await.expect("an answer has a whole body");
    assert_eq!(status, expected, "{url} answers {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{url} answers {body}: {error}"))
}

impl World {
    /// An organisation in the highest tier.
    pub async fn organization(&self) -> Organization {
        self.organization_with(&json!({"name": "test", "tier": "enterprise"}))
            .await
    }

    /// An organisation as `body` describes it to the admin API.
    pub async fn organization_with(&self, body: &Value) -> Organization {
        #[derive(Deserialize)]
        struct Created {
            id: OrgId,
        }
        #[derive(Deserialize)]
        struct Key {
            key: String,
        }
        let organization: Created = self.create("", body).await;
        let path = format!("/{}/keys", organization.id);
        let key: Key = self.create(&path, &json!({"name": "test"})).await;
        Organization {
            id: organization.id,
            key: key.key,
        }
    }

    /// An endpoint that gets all of an organisation's events.
    pub async fn endpoint(&self, organization: &Organization, receiver: &Receiver) -> Endpoint {
        self.endpoint_with(organization, receiver, json!({})).await
    }

    /// An endpoint with the given fields besides its URL.
    pub async fn endpoint_with(
        &self,
        organization: &Organization,
        receiver: &Receiver,
        fields: Value,
    ) -> Endpoint {
        let path = receiver.new_path();
        let url = receiver.url(&path);
        let (endpoint, secret) = self.endpoint_at(organization, &url, fields).await;
        receiver.register(path, endpoint.id, &secret);
        endpoint
    }

    /// An endpoint anywhere, and its secret.
    pub async fn endpoint_at(
        &self,
        organization: &Organization,
        url: &str,
        mut fields: Value,
    ) -> (Endpoint, String) {
        #[derive(Deserialize)]
        struct Created {
            #[serde(flatten)]
            endpoint: Endpoint,
            secret: String,
        }
        fields["url"] = url.into();
        if fields["timeout_ms"].is_null() {
            fields["timeout_ms"] = ENDPOINT_TIMEOUT_MS.into();
        }
        let path = format!("/{}/endpoints", organization.id);
        let created: Created = self.create(&path, &fields).await;
        (created.endpoint, created.secret)
    }

    async fn create<T: DeserializeOwned>(&self, path: &str, body: &Value) -> T {
        let request = self
            .http
            .post(self.url(&format!("/admin/v1/organizations{path}")));
        let request = request.bearer_auth(self.stack().admin_token()).json(body);
        let response = request.send().await.expect("ingest-api answers");
        read(response, StatusCode::CREATED).await
    }

    /// A producer of an organisation at the first `ingest-api`.
    pub fn producer(&self, organization: &Organization) -> Producer {
        self.producer_at(organization, 0)
    }

    /// A producer of an organisation at `ingest-api` number `index`.
    pub fn producer_at(&self, organization: &Organization, index: usize) -> Producer {
        self.producer_via(organization, self.stack().ingest(index).url())
    }

    /// A producer of an organisation at whatever leads to an `ingest-api`.
    pub fn producer_via(&self, organization: &Organization, url: String) -> Producer {
        Producer {
            http: self.http.clone(),
            url,
            key: organization.key.clone(),
        }
    }

    /// Where a path of the first `ingest-api` is.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.stack().ingest(0).url())
    }

    /// The client that all requests of this world are made with.
    pub fn http(&self) -> &Client {
        &self.http
    }
}
