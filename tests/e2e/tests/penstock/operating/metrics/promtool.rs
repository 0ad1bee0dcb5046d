//! What the services export, judged by Prometheus's own tool.

use std::path::Path;
use std::process::{Output, Stdio};

use e2e::{Answer, Event};
use reqwest::{Method, StatusCode};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::calls::{request, status};
use crate::programs::debian;
use crate::setup;

/// What `promtool check metrics` makes of a text.
async fn check(promtool: &Path, text: &str) -> Output {
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it was taken out of its package");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(text.as_bytes()).await.expect("it reads all");
    drop(input);
    child.wait_with_output().await.expect("it ends")
}

#[tokio::test]
async fn promtool_finds_no_fault_in_what_the_services_export() {
    let Some(promtool) = debian::program("prometheus", "usr/bin/promtool").await else {
        return;
    };
    let wrong = "# TYPE penstock_events counter\npenstock_events 1\n";
    assert!(!check(&promtool, wrong).await.status.success());

    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| Answer::status(if webhook.number == 1 { 500 } else { 204 }));
    world.endpoint(&organization, &receiver).await;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    let refused = request(&world, 0, Method::GET, "/v1/events/none", &organization.key);
    assert_eq!(status(refused).await, StatusCode::NOT_FOUND);
    for service in world.stack().services() {
        let answer = world.http().get(service.metrics_url()).send().await;
        let text = answer.expect("the service answers").text().await;
        let text = text.expect("an answer has a whole body");
        assert!(text.contains("penstock_build_info"), "{text}");
        let checked = check(&promtool, &text).await;
        let faults = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{}: {faults}", service.name());
    }
    world.finish().await;
}
