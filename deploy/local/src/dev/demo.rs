//! An organisation with a key, an endpoint and two tenants with one each, so that the first `curl` already shows a webhook.

use anyhow::{Context, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::children::ports::Port;
use crate::dev::receiver::Receiver;
use crate::say::say;
use crate::stack::Stack;
use crate::state::{Demo, DemoTenant};

/// The demo's tenants.
const TENANTS: [&str; 2] = ["acme", "globex"];

/// The demo organisation of this data folder, made if it has none, and the receiver of its webhooks.
pub(crate) async fn prepare(stack: &mut Stack) -> anyhow::Result<(Demo, Receiver)> {
    if let Some(demo) = stack.state_mut().demo.clone() {
        if let Some(port) = Port::exactly(demo.port) {
            return Ok((demo, Receiver::bind(port).await?));
        }
        say(&format!(
            "Port {} is taken, to which the demo organisation's webhooks go: making another organisation.",
            demo.port,
        ));
    }
    let receiver = Receiver::bind(Port::free()?).await?;
    let demo = create(stack, receiver.port())
        .await
        .context("cannot make the demo organisation")?;
    stack.state_mut().demo = Some(demo.clone());
    stack.save_state()?;
    Ok((demo, receiver))
}

#[derive(Deserialize)]
struct Organization {
    id: String,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct Endpoint {
    secret: String,
}

async fn create(stack: &Stack, port: u16) -> anyhow::Result<Demo> {
    let organization = json!({"name": "demo", "tier": "enterprise"});
    let organization: Organization = post(stack, "/admin/v1/organizations", &organization).await?;
    let path = format!("/admin/v1/organizations/{}", organization.id);
    let key: Key = post(stack, &format!("{path}/keys"), &json!({"name": "demo"})).await?;
    let endpoint = json!({"url": format!("http://127.0.0.1:{port}/"), "description": "demo receiver"});
    let endpoint: Endpoint = post(stack, &format!("{path}/endpoints"), &endpoint).await?;
    let mut tenants = Vec::new();
    for uid in TENANTS {
        let url = format!("http://127.0.0.1:{port}/{uid}");
        let endpoint =
            json!({"url": url, "description": "demo receiver", "tenant": uid, "create_tenant": true});
        let endpoint: Endpoint = post(stack, &format!("{path}/endpoints"), &endpoint).await?;
        tenants.push(DemoTenant {
            uid: uid.to_owned(),
            secret: endpoint.secret,
        });
    }
    Ok(Demo {
        tenants,
        organization: organization.id,
        key: key.key,
        port,
        secret: endpoint.secret,
    })
}

/// Creates something through the admin API.
async fn post<T: DeserializeOwned>(stack: &Stack, path: &str, body: &Value) -> anyhow::Result<T> {
    let url = format!("{}{path}", stack.ingest(0).url());
    let response = stack
        .http()
        .post(&url)
        .bearer_auth(stack.admin_token())
        .json(body)
        .send()
        .await?;
    let status = response.status();
    let text = response.text().await?;
    if !status.is_success() {
        bail!("POST {path} answers {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("POST {path} answers something unexpected"))
}
