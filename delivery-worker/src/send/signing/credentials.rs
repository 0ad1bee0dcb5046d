//! What the requests of an endpoint show besides their signature, ready to be sent.

use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderValue};
use shared::credentials::{Credentials as Given, basic, bearer};
use shared::domain::delivery::Outcome;
use shared::domain::id::EndpointId;
use shared::secret::SecretsKey;
use tokio::time::{Instant, timeout_at};

use crate::send::client::{Answer, Failure, Identity, Outbound};
use crate::send::signing::tokens::{Fetcher, Token, TokenFailed, Tokens};

/// An endpoint's credentials.
#[derive(Debug)]
pub(crate) struct Credentials {
    given: Given,
    ready: Ready,
}

#[derive(Debug)]
enum Ready {
    Header(HeaderValue),
    Tokens(Arc<Tokens>),
    Certificate(Identity),
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The request was not answered.
    Failed(Failure),
    /// There is no token to send it with.
    NoToken(Arc<TokenFailed>),
}

impl NotSent {
    /// The outcome of the attempt.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Failed(failure) => failure.outcome(),
            Self::NoToken(_) => Outcome::Auth,
        }
    }

    /// The resource that this worker lacked. Then no request was sent.
    pub(crate) fn lack(&self) -> Option<&'static str> {
        match self {
            Self::Failed(failure) => failure.lack(),
            Self::NoToken(failed) => failed.lack(),
        }
    }

    /// With its causes, without URLs and secrets.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Failed(failure) => failure.describe(),
            Self::NoToken(failed) => format!("no token: {failed}"),
        }
    }
}

impl Credentials {
    /// Those that are stored of an endpoint. They are those of `before`, with their tokens and connections, if nothing has changed.
    ///
    /// # Errors
    /// When `key` does not open them, or with what the API would not have taken.
    pub(crate) fn open(
        sealed: Option<&[u8]>,
        key: &SecretsKey,
        endpoint: EndpointId,
        before: Option<&Arc<Self>>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(sealed) = sealed else {
            return Ok(None);
        };
        let given = Given::unseal(sealed, key, endpoint)?;
        match before {
            Some(before) if before.given == given => Ok(Some(before.clone())),
            _ => Ok(Some(Arc::new(Self::new(given)?))),
        }
    }

    /// Makes them ready.
    ///
    /// # Errors
    /// With what the API would not have taken.
    fn new(given: Given) -> anyhow::Result<Self> {
        let ready = match &given {
            Given::Basic { username, password } => {
                Ready::Header(basic(username.reveal(), password.reveal())?)
            }
            Given::Bearer { token } => Ready::Header(bearer(token.reveal())?),
            Given::ClientCredentials(client) => Ready::Tokens(Arc::new(Tokens::new(client)?)),
            Given::Mtls(certificate) => {
                let read = certificate.read();
                let read = read.map_err(|wrong| anyhow::anyhow!("auth.{}: {}", wrong.field, wrong.detail))?;
                Ready::Certificate(Identity::new(read))
            }
        };
        Ok(Self { given, ready })
    }

    /// Makes a request with them. A token that the receiver refuses is replaced by a new one, once.
    ///
    /// # Errors
    /// When there is no token before the deadline, or no answer.
    pub(crate) async fn send(
        &self,
        fetcher: &Fetcher<'_>,
        outbound: Outbound<'_>,
        deadline: Instant,
    ) -> Result<Answer, NotSent> {
        let tokens = match &self.ready {
            Ready::Header(value) => return send_with(fetcher, &outbound, value).await,
            Ready::Certificate(identity) => {
                let outbound = Outbound {
                    identity: Some(identity),
                    ..outbound
                };
                return fetcher.client.send(outbound).await.map_err(NotSent::Failed);
            }
            Ready::Tokens(tokens) => tokens,
        };
        let first = token(tokens, fetcher, None, deadline).await?;
        let answer = send_with(fetcher, &outbound, &first.header).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        answer.cut();
        let second = token(tokens, fetcher, Some(&first), deadline).await?;
        send_with(fetcher, &outbound, &second.header).await
    }
}

async fn token(
    tokens: &Arc<Tokens>,
    fetcher: &Fetcher<'_>,
    refused: Option<&Arc<Token>>,
    deadline: Instant,
) -> Result<Arc<Token>, NotSent> {
    match timeout_at(deadline, tokens.get(fetcher, refused)).await {
        Ok(got) => got.map_err(NotSent::NoToken),
        Err(_) => Err(NotSent::NoToken(Arc::new(TokenFailed::Late))),
    }
}

async fn send_with(
    fetcher: &Fetcher<'_>,
    outbound: &Outbound<'_>,
    value: &HeaderValue,
) -> Result<Answer, NotSent> {
    let headers = || {
        let mut headers = (outbound.headers)();
        headers.insert(AUTHORIZATION, value.clone());
        headers
    };
    let outbound = Outbound {
        headers: &headers,
        ..*outbound
    };
    fetcher.client.send(outbound).await.map_err(NotSent::Failed)
}
