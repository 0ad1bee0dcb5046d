//! Tokens of OAuth 2 servers: what becomes of deliveries with one, and without.

use std::path::Path;
use std::process::Stdio;

use e2e::{Attempt, Event, RawReceiver, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::endpoint;
use crate::calls::{call, json, send};
use crate::capture::{Capture, free_port};
use crate::delivering::egress::proxies::{Proxy, attempts, one, tinyproxy};
use crate::delivering::egress::until_put_off;
use crate::programs::node;
use crate::setup;

const PACKAGE: &str = "oauth2-mock-server@9.3.0";

/// A token server. It tells of each request on a line; a client whose scope is `refused` gets none.
const SERVER: &str = r#"
import { OAuth2Server } from "oauth2-mock-server";
const server = new OAuth2Server();
await server.issuer.keys.generate("RS256");
await server.start(Number(process.argv.at(-1)), "127.0.0.1");
console.log(JSON.stringify({ port: server.address().port }));
let number = 0;
server.service.on("beforeTokenSigning", (token) => { token.payload.jti = String(number++); });
server.service.on("beforeResponse", (response, request) => {
  const { authorization } = request.headers;
  console.log(JSON.stringify({ authorization, form: request.body, token: response.body.access_token }));
  if (request.body.scope === "refused") {
    response.statusCode = 401;
    response.body = { error: "invalid_client", error_description: "canary-3f9c2b71" };
  }
});
"#;

struct TokenServer {
    port: u16,
    lines: Lines<BufReader<ChildStdout>>,
    // Ends with it.
    _process: Child,
}

impl TokenServer {
    /// Starts one; port 0 is any that is free.
    async fn start(folder: &Path, port: u16) -> Self {
        let mut process = Command::new("node")
            .args(["--input-type=module", "-e", SERVER, "--", &port.to_string()])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node is there: npm installed the package");
        let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let mut server = Self {
            port: 0,
            lines,
            _process: process,
        };
        let started = server.told().await;
        server.port = started["port"]
            .as_u64()
            .and_then(|port| port.try_into().ok())
            .expect("it tells its port");
        server
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/token", self.port)
    }

    /// What it says next.
    async fn told(&mut self) -> Value {
        let line = self.lines.next_line().await.expect("it can be read");
        let line = line.expect("it runs");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }
}

fn client(url: &str) -> Value {
    json!({"kind": "oauth2_client_credentials", "token_url": url, "client_id": "shop", "client_secret": "hush:&"})
}

/// `Authorization` with the token that was given to whoever asked.
fn bearer(asked: &Value) -> String {
    format!("Bearer {}", asked["token"].as_str().expect("a token is text"))
}

#[tokio::test]
async fn one_token_serves_many_deliveries_and_one_that_is_refused_is_replaced_within_the_attempt() {
    let Some(folder) = node::package(PACKAGE).await else {
        return;
    };
    let world = setup().start().await;
    let organization = world.organization().await;
    let mut server = TokenServer::start(&folder, 0).await;
    let capture = Capture::start().await;
    let mut auth = client(&server.url());
    auth["scope"] = "orders:write".into();
    auth["audience"] = "https://receiver.example".into();
    let id = endpoint(&world, &organization, &capture.url(), &auth).await;
    let producer = world.producer(&organization);
    send(&producer, 20).await;
    let webhooks = capture.wait_for(20).await;
    let asked = server.told().await;
    assert_eq!(asked["authorization"], "Basic c2hvcDpodXNoJTNBJTI2");
    assert_eq!(
        asked["form"],
        json!({"grant_type": "client_credentials", "scope": "orders:write", "audience": "https://receiver.example"})
    );
    let first = bearer(&asked);
    assert!(
        webhooks
            .iter()
            .all(|webhook| webhook.header("authorization") == first)
    );

    // A change of something else keeps the token; the next line is of the next change.
    let path = format!("/{id}");
    let change = |fields: Value| call(&world, &organization, Method::PATCH, &path).json(&fields);
    json(change(json!({"description": "x"}))).await;
    producer.send(&Event::new("a", "1")).await;
    assert_eq!(capture.wait_for(21).await[20].header("authorization"), first);

    let refused = first.clone();
    let picky = Capture::answering(move |webhook| {
        if webhook.header("authorization") == refused {
            StatusCode::UNAUTHORIZED
        } else {
            StatusCode::NO_CONTENT
        }
    })
    .await;
    json(change(json!({"url": picky.url()}))).await;
    let event = producer.send(&Event::new("a", "2")).await;
    world.until_delivery_is(event, "delivered").await;
    let second = bearer(&server.told().await);
    let shown: Vec<_> = picky
        .requests()
        .iter()
        .map(|webhook| webhook.header("authorization").to_owned())
        .collect();
    assert_eq!(shown, [first, second]);
    let delivered = Attempt {
        number: 1,
        outcome: "delivered".to_owned(),
        response_status: Some(204),
    };
    assert_eq!(world.attempts_of(event).await, [delivered]);

    auth["client_auth"] = "body".into();
    let shown = json(change(json!({"auth": auth, "url": capture.url()}))).await;
    auth.as_object_mut().expect("it is one").remove("client_secret");
    assert_eq!(shown["auth"], auth);
    producer.send(&Event::new("a", "3")).await;
    let asked = server.told().await;
    assert_eq!(asked["authorization"], Value::Null);
    assert_eq!(
        (&asked["form"]["client_id"], &asked["form"]["client_secret"]),
        (&json!("shop"), &json!("hush:&"))
    );
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_without_a_token_is_tried_again_until_there_is_one() {
    let Some(folder) = node::package(PACKAGE).await else {
        return;
    };
    // On a busy machine the server takes many attempts to start.
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1000");
    let setup = setup.worker_env("CIRCUIT_FAILURES", "1000000");
    let world = setup.start().await;
    let organization = world.organization().await;
    let capture = Capture::start().await;
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}/token");
    endpoint(&world, &organization, &capture.url(), &client(&url)).await;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    until("an attempt without a token", async || {
        match world.attempts_of(event).await.first() {
            Some(attempt) if attempt.outcome == "auth" && attempt.response_status.is_none() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(capture.requests().len(), 0);
    let _server = TokenServer::start(&folder, port).await;
    world.until_delivery_is(event, "delivered").await;
    assert_eq!(capture.requests().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_token_server_that_refuses_or_is_silent_is_named_without_its_words() {
    let Some(folder) = node::package(PACKAGE).await else {
        return;
    };
    let world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let server = TokenServer::start(&folder, 0).await;
    let silent = RawReceiver::start("127.0.0.1:0", async |mut stream| {
        // It reads, and says nothing.
        let mut request = Vec::new();
        let _ = stream.read_to_end(&mut request).await;
    })
    .await;
    let capture = Capture::start().await;
    let mut refused = client(&server.url());
    refused["scope"] = "refused".into();
    for (auth, error) in [
        (
            refused,
            "no token: the token server answered 401 Unauthorized: invalid_client",
        ),
        (
            client(&silent.url()),
            "no token: the token server did not answer in time",
        ),
    ] {
        let organization = world.organization().await;
        let fields = json!({"auth": auth, "timeout_ms": 5_000, "retry": {"attempts": 1}});
        world.endpoint_at(&organization, &capture.url(), fields).await;
        let event = world.producer(&organization).send(&Event::new("a", "1")).await;
        world.until_delivery_is(event, "dead").await;
        let told =
            sqlx::query_as("select outcome, error from attempt_history where event_id = $1").bind(event);
        let told: (String, String) = told
            .fetch_one(world.database())
            .await
            .expect("there is an attempt");
        assert_eq!(told, ("auth".to_owned(), error.to_owned()));
    }
    assert_eq!(capture.requests().len(), 0);
    world.finish().await;
}

#[tokio::test]
async fn tokens_are_fetched_through_the_egress_proxy_and_one_that_is_away_costs_no_attempt() {
    let (Some(folder), Some(program)) = (node::package(PACKAGE).await, tinyproxy().await) else {
        return;
    };
    let mut proxy = Proxy::http(&program).await;
    let setup = setup().worker_env("EGRESS_PROXY", &proxy.url("http", "p%2Ess"));
    let world = setup.start().await;
    let organization = world.organization().await;
    let mut server = TokenServer::start(&folder, 0).await;
    let capture = Capture::start().await;
    proxy.stop().await;
    endpoint(&world, &organization, &capture.url(), &client(&server.url())).await;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    until_put_off(&world, "proxy", 1.0).await;
    assert_eq!(attempts(&world, event).await, []);

    proxy.start_again().await;
    world.until_delivery_is(event, "delivered").await;
    assert_eq!(attempts(&world, event).await, one("delivered"));
    let webhook = capture.wait_for(1).await.remove(0);
    assert_eq!(webhook.header("authorization"), bearer(&server.told().await));
    let log = proxy.log();
    for port in [server.port, capture.port()] {
        assert!(log.contains(&format!("CONNECT 127.0.0.1:{port} ")), "{log}");
    }
    world.finish().await;
}
