//! Bodies and signatures as receivers of other senders want them: what a worker delivered is verified by the libraries that
//! these receivers use.

use e2e::{Event, World};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::calls::{call, json};
use crate::capture::{Capture, Captured, output};
use crate::programs::{node, python};
use crate::setup;

/// Says of a body, and of the same body with one byte more, whether the library takes it.
const IN_PYTHON: &str = r#"
import base64, hashlib, hmac, json, sys

headers, secrets = json.loads(sys.argv[1]), json.loads(sys.argv[2])

def stripe(body):
    import stripe
    try:
        stripe.WebhookSignature.verify_header(body.decode(), headers["stripe-signature"], secrets["stripe"], 300)
        return True
    except stripe.SignatureVerificationError:
        return False

def slack(body):
    from slack_sdk.signature import SignatureVerifier
    return SignatureVerifier(secrets["slack"]).is_valid_request(body, headers)

def standard(body):
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError
    try:
        Webhook(secrets["standard"]).verify(body, headers)
        return True
    except WebhookVerificationError:
        return False

def ed25519(body):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    entries = [e[4:] for e in headers["webhook-signature"].split(" ") if e.startswith("v1a,")]
    def verifies(key, entry):
        try:
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.removeprefix("whpk_")))
            public.verify(base64.b64decode(entry), signed)
            return True
        except InvalidSignature:
            return False
    return len(entries) == len(secrets["ed25519"]) and all(map(verifies, secrets["ed25519"], entries))

def own(body):
    signed = f"{headers['webhook-id']}\n{headers['x-sent-at']}\n".encode() + body
    expected = hmac.new(base64.b64decode(secrets["own"]), signed, hashlib.sha512).digest()
    return headers["x-own"] == f"at {headers['x-sent-at']}: " + base64.b64encode(expected).decode()

verify, body = globals()[sys.argv[3]], sys.stdin.buffer.read()
print(verify(body), verify(body + b" "))
"#;

const GITHUB: &str = r#"
import { verify } from "@octokit/webhooks-methods";
import { readFileSync } from "node:fs";
const [headers, secret] = process.argv.slice(-2).map((each) => JSON.parse(each));
const body = readFileSync(0, "utf8");
const valid = (body) => verify(secret, body, headers["x-hub-signature-256"]);
console.log(await valid(body), await valid(body + " "));
"#;

const SHOPIFY: &str = r#"
import "@shopify/shopify-api/adapters/node";
import { shopifyApi, LogSeverity } from "@shopify/shopify-api";
import { readFileSync } from "node:fs";
const [headers, secret] = process.argv.slice(-2).map((each) => JSON.parse(each));
const body = readFileSync(0, "utf8");
const shopify = shopifyApi({
  apiKey: "key", apiSecretKey: secret, hostName: "shop.example", apiVersion: "2025-01", isEmbeddedApp: false,
  logger: { level: LogSeverity.Error, log: () => {} },
});
const valid = async (rawBody) => {
  const rawRequest = { method: "POST", url: "/", headers };
  return (await shopify.webhooks.validate({ rawBody, rawRequest, rawResponse: {} })).valid;
};
console.log(await valid(body), await valid(body + " "));
"#;

const PACKAGES: [&str; 4] = [
    "stripe==16.1.0",
    "slack-sdk==3.48.0",
    "standardwebhooks==1.1.0",
    "cryptography==50.0.2",
];

async fn in_python(function: &str, secrets: &Value, webhook: &Captured) -> String {
    let packages = python::packages(&PACKAGES).await;
    let (headers, secrets) = (webhook.headers().to_string(), secrets.to_string());
    let mut command = Command::new("python3");
    command.args(["-c", IN_PYTHON, &headers, &secrets, function]);
    output(command.env("PYTHONPATH", packages), &webhook.body).await
}

/// Nothing where npm cannot install the package.
async fn in_node(package: &str, script: &str, secret: &str, webhook: &Captured) -> Option<String> {
    let folder = node::package(package).await?;
    let (headers, secret) = (webhook.headers().to_string(), json!(secret).to_string());
    let mut command = Command::new("node");
    command
        .args(["--input-type=module", "-e", script, "--", &headers, &secret])
        .current_dir(folder);
    Some(output(&mut command, &webhook.body).await)
}

const GOOD_ALONE: &str = "True False";
const GOOD_ALONE_IN_NODE: &str = "true false";

/// A stripe secret looks like one of ours; its text is the key.
const STRIPE_SECRET: &str = "whsec_4a1b2c3d4e5f60718293a4b5c6d7e8f9";
const OWN_SECRET: &str = "/wABAgP+";

async fn send(world: &World, organization: &e2e::Organization, url: &str, fields: Value) -> (String, String) {
    let (endpoint, secret) = world.endpoint_at(organization, url, fields).await;
    (endpoint.id.to_string(), secret)
}

#[tokio::test]
async fn receivers_of_github_stripe_slack_and_shopify_verify_what_a_worker_sends() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (first, second) = (Capture::start().await, Capture::start().await);
    let signatures = json!([
        {"scheme": "github", "secret": "It's a Secret to Everybody"},
        {"scheme": "stripe", "secret": STRIPE_SECRET},
        {"scheme": "slack", "secret": "8f742231b10e8888abcd99yyyzzz85a5", "until": "2999-01-01T00:00:00+01:00"},
    ]);
    send(
        &world,
        &organization,
        &first.url(),
        json!({"signatures": signatures, "format": "raw"}),
    )
    .await;
    let shopify = json!([{"scheme": "shopify", "secret": "hush"}, {"scheme": "standard", "until": "2020-01-01T00:00:00Z"}]);
    let headers = json!({
        "X-Shopify-Topic": "orders/create", "X-Shopify-API-Version": "2025-01", "X-Shopify-Webhook-Id": "1",
        "X-Shopify-Shop-Domain": "shop.myshopify.com", "X-Shopify-Event-Id": "1",
        "X-Shopify-Triggered-At": "2026-01-01T00:00:00Z",
    });
    let fields = json!({"signatures": shopify, "format": "raw", "headers": headers});
    send(&world, &organization, &second.url(), fields).await;
    let event = Event::new("order.created", r#"{"text": "größe \u0000", "n": 1e400}"#);
    let producer = world.producer(&organization);
    producer.send(&event).await;
    let webhook = first.wait_for(1).await.remove(0);
    assert_eq!(&webhook.body[..], event.data.as_bytes());
    assert!(!webhook.headers.contains_key("webhook-signature"));
    let secrets = json!({"stripe": STRIPE_SECRET, "slack": "8f742231b10e8888abcd99yyyzzz85a5"});
    for function in ["stripe", "slack"] {
        assert_eq!(
            in_python(function, &secrets, &webhook).await,
            GOOD_ALONE,
            "{function}"
        );
    }
    let package = "@octokit/webhooks-methods@6.0.0";
    let github = in_node(package, GITHUB, "It's a Secret to Everybody", &webhook).await;
    assert!(github.is_none_or(|said| said == GOOD_ALONE_IN_NODE));
    let webhook = second.wait_for(1).await.remove(0);
    assert!(
        !webhook.headers.contains_key("webhook-signature"),
        "its time is over"
    );
    let shopify = in_node("@shopify/shopify-api@15.0.0", SHOPIFY, "hush", &webhook).await;
    assert!(shopify.is_none_or(|said| said == GOOD_ALONE_IN_NODE));
    world.finish().await;
}

#[tokio::test]
async fn an_ed25519_key_and_an_hmac_of_its_owners_design_sign_beside_the_standard() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let capture = Capture::start().await;
    let own = json!({
        "scheme": "hmac", "header": "X-Own", "hash": "sha512", "encoding": "base64", "prefix": "at {timestamp}: ",
        "signed": "{id}\n{timestamp}\n{body}", "timestamp_header": "X-Sent-At", "secret_base64": OWN_SECRET,
    });
    let signatures = json!([{"scheme": "standard"}, {"scheme": "ed25519"}, own]);
    let given = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let fields = json!({"signatures": signatures, "secret": given});
    let (id, secret) = send(&world, &organization, &capture.url(), fields).await;
    assert_eq!(secret, given);
    let endpoint = |path: &str| {
        call(
            &world,
            &organization,
            reqwest::Method::GET,
            &format!("/{id}/{path}"),
        )
    };
    let first = json(endpoint("public-key")).await;
    assert_eq!(
        (&first["previous_public_key"], &first["previous_expires_at"]),
        (&Value::Null, &Value::Null)
    );
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", r#"{"n": 1}"#)).await;
    let webhook = capture.wait_for(1).await.remove(0);
    let secrets = json!({"standard": given, "own": OWN_SECRET, "ed25519": [first["public_key"]]});
    for function in ["standard", "own", "ed25519"] {
        assert_eq!(
            in_python(function, &secrets, &webhook).await,
            GOOD_ALONE,
            "{function}"
        );
    }

    let rotate = call(
        &world,
        &organization,
        reqwest::Method::POST,
        &format!("/{id}/rotate-key"),
    );
    let second = json(rotate).await;
    assert_eq!(second["previous_public_key"], first["public_key"]);
    assert_eq!(json(endpoint("public-key")).await, second);
    producer.send(&Event::new("a", "2")).await;
    let webhook = capture.wait_for(2).await.remove(1);
    let secrets = json!({"ed25519": [second["public_key"], first["public_key"]]});
    assert_eq!(in_python("ed25519", &secrets, &webhook).await, GOOD_ALONE);

    let rotate = call(
        &world,
        &organization,
        reqwest::Method::POST,
        &format!("/{id}/rotate-key"),
    );
    let third = json(rotate.json(&json!({"overlap_seconds": 0}))).await;
    assert_eq!(third["previous_public_key"], Value::Null);
    producer.send(&Event::new("a", "3")).await;
    let webhook = capture.wait_for(3).await.remove(2);
    let secrets = json!({"ed25519": [third["public_key"]]});
    assert_eq!(in_python("ed25519", &secrets, &webhook).await, GOOD_ALONE);
    world.finish().await;
}

#[tokio::test]
async fn a_raw_webhook_is_the_payload_alone_also_by_put_and_whatever_its_media_type() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let capture = Capture::start().await;
    let fields = json!({"format": "raw", "method": "PUT"});
    let (_, secret) = send(&world, &organization, &capture.url(), fields).await;
    let producer = world.producer(&organization);
    let data = r#"{"n":1e400,  "s":"\u0000"}"#;
    producer.send(&Event::new("a", data)).await;
    let json = capture.wait_for(1).await.remove(0);
    assert_eq!((json.method.as_str(), &json.body[..]), ("PUT", data.as_bytes()));
    assert_eq!(json.header("content-type"), "application/json");
    let secrets = json!({"standard": secret});
    assert_eq!(in_python("standard", &secrets, &json).await, GOOD_ALONE);
    let cloudevent = producer
        .post("/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "note")
        .header("content-type", "text/plain; charset=latin1")
        .body(b"hi \xff".to_vec());
    e2e::accepted(cloudevent.send().await.expect("ingest-api answers")).await;
    let text = capture.wait_for(2).await.remove(1);
    assert_eq!(&text.body[..], b"hi \xff");
    assert_eq!(text.header("content-type"), "text/plain; charset=latin1");
    world.finish().await;
}
