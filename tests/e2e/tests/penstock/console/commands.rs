//! The command that the page of an event offers, run in a shell.

use e2e::{Organization, World, until};
use reqwest::Method;
use serde_json::Value;
use tokio::process::Command;

use super::browser::Browser;
use crate::calls::{self, request, text};
use crate::setup;

/// Events with all that a command could lose, each with its media type.
const SENT: [(&str, &str); 3] = [
    (
        "application/json",
        r#"{"type":"it's","data":{"a":"'$HOME' `x` \\"},"ordering_key":"o'k","tenant":"acme"}"#,
    ),
    (
        "application/cloudevents+json",
        r#"{"specversion":"1.0","id":"1","source":"/shop","type":"note","subject":"it's","partitionkey":"p","tenant":"acme",
            "datacontenttype":"text/plain","data":"it's no JSON"}"#,
    ),
    (
        "application/cloudevents+json",
        r#"{"specversion":"1.0","id":"2","source":"/shop","type":"order","count":7,"data":[12345678901234567890123]}"#,
    ),
];

/// What a command sends again.
fn same(event: &Value) -> Value {
    let mut same = event.clone();
    let fields = same.as_object_mut().expect("an event is an object");
    for own in ["id", "accepted_at", "idempotency_key"] {
        fields.remove(own);
    }
    if let Some(attributes) = fields.get_mut("cloudevent").and_then(Value::as_object_mut) {
        attributes.remove("id");
    }
    same
}

async fn stored(world: &World, organization: &Organization, id: &str) -> Value {
    let path = format!("/v1/events/{id}");
    until("the event to be stored", async || {
        let answer = request(world, 0, Method::GET, &path, &organization.key).send();
        let answer = answer.await.expect("ingest-api answers");
        if answer.status().is_success() {
            Ok(answer.json().await.expect("an event is JSON"))
        } else {
            Err(answer.status().to_string())
        }
    })
    .await
}

/// Runs a command in a shell, and returns the id of the event that it sends.
async fn run(command: &str, key: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).env("KEY", key).output();
    let output = output.await.expect("there is a shell");
    let answer = serde_json::from_slice(&output.stdout);
    let answer: Value = answer.unwrap_or_else(|error| panic!("{command}: {error}: {output:?}"));
    text(&answer, "id").to_owned()
}

#[tokio::test]
async fn the_command_of_an_event_sends_the_same_event_anew() {
    let world = setup().start().await;
    let organization = world.organization().await;
    super::portal::tenant(&world, &organization, "acme").await;
    let mut ids = Vec::new();
    for (media_type, body) in SENT {
        let sent = request(&world, 0, Method::POST, "/v1/events", &organization.key)
            .header("content-type", media_type)
            .body(body);
        ids.push(text(&calls::json(sent).await, "id").to_owned());
    }
    world.settle().await;
    let base = world.url("");
    let mut arguments = vec![&*base, &*organization.key];
    arguments.extend(ids.iter().map(String::as_str));
    let Some(mut browser) = Browser::run("commands.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    for id in &ids {
        let command: String =
            serde_json::from_str(&browser.hear("command").await).expect("it is a JSON string");
        let again = run(&command, &organization.key).await;
        assert_ne!(&again, id, "{command}");
        let (first, second) = (
            stored(&world, &organization, id).await,
            stored(&world, &organization, &again).await,
        );
        assert_eq!(same(&second), same(&first), "{command}");
        browser.say("go on").await;
    }
    browser.finish().await;
    world.settle().await;
    world.finish().await;
}
