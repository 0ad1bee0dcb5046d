//! Bodies that endpoints' templates make.

use e2e::{Event, Organization, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::{answer, call, json as body, request, send, status};
use crate::setup;

/// Takes all of its fuel each time.
pub(super) const ENDLESS: &str =
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";

async fn outcomes(world: &World, id: EventId) -> Vec<String> {
    let attempts = world.attempts_of(id).await;
    attempts.into_iter().map(|attempt| attempt.outcome).collect()
}

#[tokio::test]
async fn a_webhooks_body_is_what_the_template_makes_of_the_event_and_is_signed() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (slack, own) = (world.receiver().await, world.receiver().await);
    let preset = json!({"template": {"preset": "slack"}});
    world.endpoint_with(&organization, &slack, preset).await;
    let text = json!({"template": {
        "body": "{{ type }} {{ data.n }}{% for line in data.lines %}\n- {{ line.sku }}{% endfor %}",
        "content_type": "text/plain; charset=utf-8"
    }});
    world.endpoint_with(&organization, &own, text).await;
    let data = r#"{"n":12345678901234567890,"lines":[{"sku":"a\"b"},{"sku":"<c>"}]}"#;
    world
        .producer(&organization)
        .send(&Event::new("order.created", data))
        .await;
    let message: Value = serde_json::from_slice(&slack.wait_for(1).await[0].body).expect("it is JSON");
    assert_eq!(message, json!({"text": format!("*order.created*\n```{data}```")}));
    let webhook = &own.wait_for(1).await[0];
    assert_eq!(webhook.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(webhook.body, "order.created 12345678901234567890\n- a\"b\n- <c>");
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_template_that_fails_is_an_outcome_and_is_replayed_when_it_is_repaired() {
    let mut world = setup()
        .worker_env("RETRY_ATTEMPTS", "3")
        .worker_env("CIRCUIT_FAILURES", "2")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fails = json!({"template": {"body": "\n{{ data.a.b }}"}});
    let endpoint = world.endpoint_with(&organization, &receiver, fails).await;
    let producer = world.producer(&organization);
    let id = producer.send(&Event::new("a", "{}")).await;
    world.until_delivery_is(id, "dead").await;
    assert_eq!(outcomes(&world, id).await, ["template"; 3]);
    let shown = body(request(
        &world,
        0,
        Method::GET,
        &format!("/v1/events/{id}"),
        &organization.key,
    ))
    .await;
    let error = &shown["deliveries"][0]["attempt_log"][0]["error"];
    assert!(
        error
            .as_str()
            .is_some_and(|error| error.starts_with("line 2: undefined value")),
        "{shown}"
    );
    let path = format!("/{}", endpoint.id);
    let health = body(call(&world, &organization, Method::GET, &path)).await["health"].take();
    assert_eq!(health["state"], "healthy", "the receiver was not asked: {health}");
    assert_eq!(receiver.count(), 0);

    let repaired =
        json!({"template": {"body": "[\"{{ data.a.b | default('none') if data.a else 'none' }}\"]"}});
    let change = call(&world, &organization, Method::PATCH, &path).json(&repaired);
    assert_eq!(status(change).await, 200);
    let replay = request(
        &world,
        0,
        Method::POST,
        &format!("/v1/events/{id}/replay"),
        &organization.key,
    );
    assert_eq!(status(replay).await, 202);
    assert_eq!(receiver.wait_for(1).await[0].body, "[\"none\"]");
    world.until_delivery_is(id, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn a_hostile_template_takes_its_fuel_and_no_time_of_other_organisations() {
    const EVENTS: usize = 100;
    let mut world = setup()
        .worker_env("WORKER_THREADS", "1")
        .worker_env("RETRY_INITIAL", "10m")
        // Most of the hostile deliveries still wait for their turn then.
        .worker_env("DRAIN_TIMEOUT", "1s")
        .start()
        .await;
    let (hostile, other) = (world.organization().await, world.organization().await);
    let (never, rendered, plain) = (
        world.receiver().await,
        world.receiver().await,
        world.receiver().await,
    );
    let endless = json!({"template": {"body": ENDLESS}, "timeout_ms": 30_000, "max_in_flight": 200});
    world.endpoint_with(&hostile, &never, endless).await;
    let preset = json!({"template": {"preset": "discord"}});
    world.endpoint_with(&other, &rendered, preset).await;
    world.endpoint(&other, &plain).await;
    send(&world.producer(&hostile), EVENTS).await;
    send(&world.producer(&other), 10).await;
    for receiver in [&rendered, &plain] {
        receiver.wait_for(10).await;
    }
    let ended = "select count(*) from deliveries where last_outcome = 'template'";
    let before = usize::try_from(world.count(ended).await).unwrap();
    assert!(before < EVENTS * 3 / 4, "{before} of {EVENTS} were before");
    let failed = "select count(*) from deliveries where last_outcome = 'template' and last_error like '%too many steps%'";
    until(
        "hostile deliveries to have failed",
        async || match usize::try_from(world.count(failed).await).unwrap() {
            some if some >= before.max(5) => Ok(()),
            fewer => Err(format!("{fewer}, and {before} had ended before")),
        },
    )
    .await;
    assert_eq!(never.count(), 0);
    world.finish().await;
}

async fn try_out(world: &World, organization: &Organization, template: Value) -> String {
    let event = json!({"type": "order.created", "tenant": "acme", "data": {"total": 12.5, "name": "a\"b"}});
    let test = request(world, 0, Method::POST, "/v1/templates/test", &organization.key);
    answer(test.json(&json!({"template": template, "event": event}))).await
}

#[tokio::test]
async fn templates_are_tried_out_and_wrong_ones_refused_with_their_line() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let good = json!({"body": "{\"text\": \"{{ data.name }} of {{ tenant }}: {{ data.total }}\"}"});
    insta::assert_snapshot!(try_out(&world, &organization, good).await, @r#"
    200 OK
    content-type: application/json

    {"body":"{\"text\": \"a\\\"b of acme: 12.5\"}","content_type":"application/json"}
    "#);
    let fails = json!({"body": "\n\n{{ data.a.b }}"});
    insta::assert_snapshot!(try_out(&world, &organization, fails).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: template.body","errors":[{"field":"template.body","detail":"line 3: undefined value"}]}
    "#);
    let endless = try_out(&world, &organization, json!({"body": ENDLESS})).await;
    assert!(
        endless.contains("takes too many steps or too much memory"),
        "{endless}"
    );

    let push = "https://example.com/";
    for (field, template) in [
        ("template.body", json!({"body": "a\n{% if %}"})),
        ("template.body", json!({"body": "a", "preset": "slack"})),
        ("template.body", json!({})),
        ("template.body", json!({"body": "a".repeat(16_385)})),
        ("template.body", json!({"body": "\u{0}"})),
        ("template.preset", json!({"preset": "irc"})),
        (
            "template.content_type",
            json!({"body": "a", "content_type": "text"}),
        ),
        (
            "template.content_type",
            json!({"body": "a", "content_type": "text/plain\r\nx: y"}),
        ),
    ] {
        let test = request(&world, 0, Method::POST, "/v1/templates/test", &organization.key);
        let event = json!({"type": "a", "data": 1});
        let make = call(&world, &organization, Method::POST, "");
        for wrong in [
            test.json(&json!({"template": template, "event": event})),
            make.json(&json!({"url": push, "template": template})),
        ] {
            let answer = wrong.send().await.expect("ingest-api answers");
            assert_eq!(answer.status(), 422, "{template}");
            let problem: Value = answer.json().await.expect("it is JSON");
            assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        }
    }
    for (field, wrong) in [
        (
            "template",
            json!({"kind": "pull", "template": {"preset": "slack"}}),
        ),
        (
            "template",
            json!({"url": push, "format": "cloudevents", "template": {"preset": "slack"}}),
        ),
    ] {
        let make = call(&world, &organization, Method::POST, "").json(&wrong);
        let problem: Value = make
            .send()
            .await
            .expect("ingest-api answers")
            .json()
            .await
            .expect("it is JSON");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_template_is_shown_to_its_owner_and_stands_in_no_list_log_or_metric() {
    const CANARY: &str = "canary-5e1f";
    const LEVELS: &str = "info,ingest_api=trace,delivery_worker=trace,shared=trace";
    let mut world = setup()
        .ingest_env("RUST_LOG", LEVELS)
        .worker_env("RUST_LOG", LEVELS)
        .worker_env("RETRY_ATTEMPTS", "1")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let template = json!({"body": format!("{{# {CANARY} #}}{{{{ data.a.b }}}}")});
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"template": template}))
        .await;
    let id = world.producer(&organization).send(&Event::new("a", "{}")).await;
    world.until_delivery_is(id, "dead").await;
    let path = format!("/{}", endpoint.id);
    let shown = body(call(&world, &organization, Method::GET, &path)).await;
    let expected = json!({"body": template["body"], "content_type": "application/json"});
    assert_eq!(
        (&shown["has_template"], &shown["template"]),
        (&json!(true), &expected)
    );
    let list = answer(call(&world, &organization, Method::GET, "")).await;
    assert!(
        list.contains("\"has_template\":true") && !list.contains(CANARY),
        "{list}"
    );
    let change = call(&world, &organization, Method::PATCH, &path).json(&json!({"template": null}));
    assert_eq!(body(change).await["has_template"], false);
    let (ingest, worker) = (world.stack().ingest(0), world.stack().worker(0));
    for service in [ingest, worker] {
        let log = service.log();
        assert!(!log.contains(CANARY));
        let metrics = world
            .http()
            .get(service.metrics_url())
            .send()
            .await
            .expect("the service answers");
        assert!(!metrics.text().await.expect("it is text").contains(CANARY));
    }
    world.finish().await;
}
