//! Portal sessions over HTTP: bound to their tenant and their capabilities, and over when they are ended.

mod access;
mod ending;
mod page;

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{json as read, request};

/// Makes a tenant.
pub(crate) async fn tenant(world: &World, organization: &Organization, uid: &str) {
    let path = format!("/v1/tenants/{uid}");
    read(request(world, 0, Method::PUT, &path, &organization.key).json(&json!({}))).await;
}

/// A session of a tenant's portal.
pub(crate) async fn session(world: &World, organization: &Organization, uid: &str, body: Value) -> Value {
    let path = format!("/v1/tenants/{uid}/portal-sessions");
    read(request(world, 0, Method::POST, &path, &organization.key).json(&body)).await
}
