//! Tokens of OAuth 2 servers (the client credentials grant): fetched once for all deliveries of an endpoint that wait, kept
//! until 90 % of their life are over.

mod answer;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use data_encoding::BASE64;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::rt::Executor as _;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioExecutor;
use shared::credentials::{ClientAuth, ClientCredentials};
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::egress::{EgressConfig, Refused};
use thiserror::Error;
use tokio::time::{Instant, timeout};
use url::{Url, form_urlencoded};

use self::answer::{error, read, token};
use crate::send::client::{Client, Failure, Outbound};
use crate::send::lookups::on_behalf_of;

/// How long a token may take to come.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A token, as a request shows it.
pub(crate) struct Token {
    /// The value of `Authorization`.
    pub header: HeaderValue,
    fresh_until: Instant,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Why there is no token.
#[derive(Debug, Error)]
pub(crate) enum TokenFailed {
    /// The URL is none that requests may go to.
    #[error("{0}")]
    Refused(Refused),
    /// The token server gave no answer.
    #[error("{}", .0.describe())]
    Failed(Failure),
    /// It did not give one in time.
    #[error("the token server did not answer in time")]
    Late,
    /// It refused.
    #[error("the token server answered {}{}", .0, told(*.1))]
    Status(StatusCode, Option<&'static str>),
    /// Its answer holds no token.
    #[error("the token server's answer {0}")]
    Malformed(&'static str),
}

fn told(error: Option<&'static str>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}

impl TokenFailed {
    /// The resource that this worker lacked.
    pub(crate) fn lack(&self) -> Option<&'static str> {
        match self {
            Self::Failed(failure) => failure.lack(),
            _ => None,
        }
    }
}

/// What a fetch needs.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'a> {
    pub client: &'a Arc<Client>,
    pub egress: &'a EgressConfig,
    /// Whose look-ups these are: of a tenant of the organisation, or its own.
    pub org_id: OrgId,
    pub tenant: Option<&'a Tenant>,
}

type Fetched = Result<Arc<Token>, Arc<TokenFailed>>;

type Running = Shared<BoxFuture<'static, Fetched>>;

/// The tokens of one endpoint.
pub(crate) struct Tokens {
    url: Url,
    headers: HeaderMap,
    body: Bytes,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    token: Option<Arc<Token>>,
    running: Option<Running>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// For a client.
    ///
    /// # Errors
    /// Never for what the API has taken.
    pub(crate) fn new(client: &ClientCredentials) -> anyhow::Result<Self> {
        let form = "application/x-www-form-urlencoded";
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static(form)),
            (ACCEPT, HeaderValue::from_static("application/json")),
        ]);
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("grant_type", "client_credentials");
        let optional = [("scope", &client.scope), ("audience", &client.audience)];
        for (name, value) in optional {
            if let Some(value) = value {
                body.append_pair(name, value);
            }
        }
        let (id, secret) = (client.client_id.as_str(), client.client_secret.reveal());
        match client.client_auth {
            ClientAuth::Basic => _ = headers.insert(AUTHORIZATION, basic(id, secret)?),
            ClientAuth::Body => {
                body.append_pair("client_id", id);
                body.append_pair("client_secret", secret);
            }
        }
        Ok(Self {
            url: client.token_url.parse()?,
            headers,
            body: body.finish().into(),
            state: Mutex::default(),
        })
    }

    /// A token that is fresh; not the one that was refused. All who ask at the same time wait for the same fetch, which goes on
    /// when nobody waits any more.
    ///
    /// # Errors
    /// [`TokenFailed`].
    pub(crate) async fn get(
        self: &Arc<Self>,
        fetcher: &Fetcher<'_>,
        refused: Option<&Arc<Token>>,
    ) -> Fetched {
        let running = {
            let mut state = self.state();
            let is_refused = |token: &Arc<Token>| refused.is_some_and(|refused| Arc::ptr_eq(token, refused));
            if state.token.as_ref().is_some_and(is_refused) {
                state.token = None;
            }
            if let Some(token) = &state.token
                && token.fresh_until > Instant::now()
            {
                return Ok(token.clone());
            }
            match &state.running {
                Some(running) if running.peek().is_none() => running.clone(),
                _ => state.running.insert(self.start(fetcher)).clone(),
            }
        };
        running.await
    }

    fn start(self: &Arc<Self>, fetcher: &Fetcher<'_>) -> Running {
        let (tokens, owner) = (self.clone(), (fetcher.org_id, fetcher.tenant.cloned()));
        let (client, egress) = (fetcher.client.clone(), fetcher.egress.clone());
        let fetch = async move {
            let fetch = on_behalf_of(owner, tokens.fetch(&client, &egress));
            let outcome = timeout(TIMEOUT, fetch).await.unwrap_or(Err(TokenFailed::Late));
            let outcome = outcome.map(Arc::new).map_err(Arc::new);
            if let Ok(token) = &outcome {
                tokens.state().token = Some(token.clone());
            }
            outcome
        };
        let running = fetch.boxed().shared();
        TokioExecutor::new().execute(running.clone().map(drop));
        running
    }

    async fn fetch(&self, client: &Client, egress: &EgressConfig) -> Result<Token, TokenFailed> {
        egress.check_url(&self.url).map_err(TokenFailed::Refused)?;
        let outbound = Outbound {
            url: &self.url,
            method: &Method::POST,
            headers: &|| self.headers.clone(),
            body: &self.body,
            identity: None,
        };
        let answer = client.send(outbound).await.map_err(TokenFailed::Failed)?;
        let status = answer.status;
        let body = read(answer).await?;
        if status.is_success() {
            return token(&body, Instant::now());
        }
        Err(TokenFailed::Status(status, error(&body)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What is under the lock is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both parts are percent-coded first (RFC 6749, section 2.3.1).
fn basic(id: &str, secret: &str) -> anyhow::Result<HeaderValue> {
    let coded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", coded(id), coded(secret));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(pair.as_bytes())))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests;
