//! Tenants: an organisation's customers, with events, endpoints and keys of their own.

mod changes;
mod creations;
pub(crate) mod deletion;
mod fan_out;
mod keys;
mod large;
mod limits;
mod on_the_way;
mod resource;
mod separation;

use e2e::{Event, Organization, Producer, World, accepted};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::{self, make, request};

/// Makes a tenant.
async fn tenant(world: &World, organization: &Organization, uid: &str, fields: Value) -> Value {
    let path = format!("/v1/tenants/{uid}");
    calls::json(request(world, 0, Method::PUT, &path, &organization.key).json(&fields)).await
}

/// A key that is bound to a tenant, in the organisation's place.
pub(crate) async fn bound(world: &World, organization: &Organization, uid: &str) -> Organization {
    let body = json!({"name": uid, "scopes": ["ingest", "manage"], "tenant": uid});
    let made = make(world, &organization.key, &body).await;
    Organization {
        id: organization.id,
        key: calls::text(&made, "key").to_owned(),
    }
}

/// Sends an event of a tenant, or of none.
async fn send(producer: &Producer, tenant: Option<&str>, data: &str) -> EventId {
    let event = Event::new("a", data).of_tenant(tenant);
    producer.send(&event).await
}

pub(crate) async fn send_body(producer: &Producer, body: &Value) -> EventId {
    let answer = producer.post_event(body.to_string()).send().await;
    accepted(answer.expect("ingest-api answers")).await
}
