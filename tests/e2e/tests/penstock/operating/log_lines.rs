//! What the services say of requests and attempts, and how much: changed while they run.

use e2e::{Answer, Event, Signal, World, until};
use futures_util::future::join_all;
use penstock_local::Service;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::calls::{request, status};
use crate::faults::held_up::{lock, until_waits};
use crate::setup;

fn lines(service: &Service, text: &str) -> Vec<String> {
    let log = service.log();
    let lines = log.lines().filter(|line| line.contains(text));
    lines.map(str::to_owned).collect()
}

async fn until_logged(service: &Service, text: &str) -> String {
    until(&format!("a line with {text:?}"), async || {
        let mut lines = lines(service, text);
        lines.pop().ok_or_else(|| "none".to_owned())
    })
    .await
}

fn id_of(response: &reqwest::Response) -> String {
    let id = &response.headers()["x-request-id"];
    id.to_str().expect("it is ASCII").to_owned()
}

#[tokio::test]
async fn each_request_has_an_id_and_a_refused_one_a_line() {
    let world = crate::world().await;
    let organization = world.organization().await;
    let get = |key: &str| request(&world, 0, Method::GET, "/v1/events/none", key);
    let (mut made, mut answers) = (Vec::new(), Vec::new());
    for request in [
        get(&organization.key),
        get(&organization.key),
        get(&organization.key).header("x-request-id", "x".repeat(129)),
        world.http().get(world.url("/healthz")),
    ] {
        let answer = request.send().await.expect("ingest-api answers");
        made.push(id_of(&answer));
        answers.push(answer.status());
    }
    assert_eq!(answers, [404, 404, 404, 200]);
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 4, "{made:?}");

    let given = get(&organization.key).header("x-request-id", "from the client");
    let given = given.send().await.expect("ingest-api answers");
    assert_eq!(id_of(&given), "from the client");
    let ingest = world.stack().ingest(0);
    let line = until_logged(ingest, "from the client").await;
    for part in [
        "refused a request",
        "status=404",
        r#"method="GET""#,
        r#"path="/v1/events/{id}""#,
        &format!("organization_id={}", organization.id),
        &format!("key_id={}", &organization.key[8..24]),
        r#"reason="there is nothing here under this path""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    assert!(
        !ingest.log().contains(&organization.key[25..]),
        "a secret is logged"
    );
    world.finish().await;
}

#[tokio::test]
async fn the_line_of_a_wrong_form_names_its_fields_and_holds_no_value() {
    let world = crate::world().await;
    let organization = world.organization().await;
    let form = json!({"url": "https://example.com/", "auth": "Bearer canary-79"});
    let wrong = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
    let wrong = wrong.header("x-request-id", "a-wrong-form").json(&form);
    assert_eq!(status(wrong).await, StatusCode::UNPROCESSABLE_ENTITY);
    let ingest = world.stack().ingest(0);
    let line = until_logged(ingest, "a-wrong-form").await;
    assert!(line.contains(r#"reason="wrong: auth""#), "{line}");
    assert!(!ingest.log().contains("canary-79"), "a secret is logged");
    world.finish().await;
}

#[tokio::test]
async fn a_client_that_goes_before_it_has_an_answer_is_logged_and_counted() {
    let world = crate::world().await;
    let organization = world.organization().await;
    let endpoints = lock(&world, "lock table endpoints").await;
    let list = request(&world, 0, Method::GET, "/v1/endpoints", &organization.key);
    let list = list.header("x-request-id", "its-client-goes");
    tokio::select! {
        answer = list.send() => panic!("it waits for a lock: {answer:?}"),
        _ = until_waits(&world, "ingest-api") => {}
    }
    let line = until_logged(world.stack().ingest(0), "its-client-goes").await;
    for part in [
        "a client has gone before it had an answer",
        r#"method="GET""#,
        r#"path="/v1/endpoints""#,
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let series = r#"penstock_http_requests_total{route="/v1/endpoints",method="GET",status="499"}"#;
    assert_eq!(world.metric(0, series).await, 1);
    endpoints.rollback().await.expect("Postgres runs");
    world.finish().await;
}

#[tokio::test]
async fn lines_about_refusals_are_few_and_the_rest_is_counted() {
    let world = crate::world().await;
    let organization = world.organization().await;
    let get = async || {
        let request = request(&world, 0, Method::GET, "/v1/events/none", &organization.key);
        assert_eq!(status(request).await, StatusCode::NOT_FOUND);
    };
    // More than 20 within a second, however slow the machine is.
    until("lines to be left out", async || {
        join_all((0..100).map(|_| get())).await;
        let left_out = world.metric(0, "penstock_log_lines_left_out_total").await;
        (left_out > 0).then_some(()).ok_or_else(|| "none".to_owned())
    })
    .await;
    // The next second's first line tells how many.
    let left_out = world.metric(0, "penstock_log_lines_left_out_total").await;
    let ingest = world.stack().ingest(0);
    until("the count to be told", async || {
        get().await;
        let told = lines(ingest, "refused a request");
        let told = told.iter().filter_map(|line| {
            let (_, count) = line.split_once("left_out=")?;
            count.split_whitespace().next()?.parse::<u64>().ok()
        });
        let told: u64 = told.sum();
        (told >= left_out)
            .then_some(())
            .ok_or_else(|| format!("{told} of {left_out}"))
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_not_ready_says_so_once_however_often_it_is_asked() {
    let mut world = crate::world().await;
    let ready = async |world: &World| status(world.http().get(world.url("/readyz"))).await;
    let until_ready_is = async |world: &World, expected: StatusCode| {
        until("the readiness to change", async || {
            let now = ready(world).await;
            (now == expected).then_some(()).ok_or_else(|| now.to_string())
        })
        .await;
    };
    world
        .stack_mut()
        .nats_mut()
        .kill()
        .await
        .expect("it can be killed");
    until_ready_is(&world, StatusCode::SERVICE_UNAVAILABLE).await;
    for _ in 0..5 {
        assert_eq!(ready(&world).await, StatusCode::SERVICE_UNAVAILABLE);
    }
    let ingest = world.stack().ingest(0);
    let line = until_logged(ingest, "not ready any more").await;
    assert!(line.contains(r#"waiting_for="NATS connection""#), "{line}");
    // Lines are written in order: with this one all before it are there.
    let wrong = world.http().post(world.url("/readyz"));
    let wrong = wrong.header("x-request-id", "the-last-one");
    assert_eq!(status(wrong).await, StatusCode::METHOD_NOT_ALLOWED);
    let told = until_logged(ingest, "the-last-one").await;
    assert!(told.contains(r#"path="/readyz""#), "{told}");
    assert_eq!(lines(ingest, "refused a request"), [told]);
    assert_eq!(lines(ingest, "not ready any more"), [line]);

    world
        .stack_mut()
        .nats_mut()
        .start()
        .await
        .expect("nats-server starts again");
    until_ready_is(&world, StatusCode::OK).await;
    world.finish().await;
}

#[tokio::test]
async fn each_failed_attempt_has_a_line_that_names_all_it_is_about() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| Answer::status(if webhook.number == 1 { 500 } else { 204 }));
    let tenant = json!({"tenant": "acme", "create_tenant": true});
    let endpoint = world.endpoint_with(&organization, &receiver, tenant).await;
    let event = Event::new("a", r#""canary""#).of_tenant("acme");
    let id = world.producer(&organization).send(&event).await;
    world.until_delivery_is(id, "delivered").await;
    let worker = world.stack().worker(0);
    let line = until_logged(worker, "an attempt failed").await;
    for part in [
        format!("event_id={id}"),
        format!("endpoint_id={}", endpoint.id),
        format!("organization_id={}", organization.id),
        r#"tenant="acme""#.to_owned(),
        "attempt=1".to_owned(),
        r#"outcome="status""#.to_owned(),
        "status=500".to_owned(),
        "again_in=".to_owned(),
    ] {
        assert!(line.contains(&part), "{part} in {line}");
    }
    assert_eq!(lines(worker, "an attempt failed").len(), 1);
    assert!(!worker.log().contains("canary"));
    world.finish().await;
}

/// `/loglevel` of a service.
fn levels(world: &World, service: &Service, method: Method) -> reqwest_middleware::RequestBuilder {
    let url = service.metrics_url().replace("/metrics", "/loglevel");
    world.http().request(method, url)
}

async fn text(request: reqwest_middleware::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("the service answers");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("it has a body"))
}

#[tokio::test]
async fn what_is_logged_changes_while_a_service_runs() {
    let world = setup().start().await;
    for service in [world.stack().ingest(0), world.stack().worker(0)] {
        let before = text(levels(&world, service, Method::GET)).await;
        assert_eq!(before.0, 200);
        let put = |filter: &str| levels(&world, service, Method::PUT).body(filter.to_owned());
        let asked = "warn,shared=trace";
        assert_eq!(text(put(asked)).await, (200, format!("{asked}\n")));
        assert_eq!(
            text(levels(&world, service, Method::GET)).await,
            (200, format!("{asked}\n"))
        );
        for wrong in ["", "a=loud", &"x".repeat(5_000)] {
            let (status, _) = text(put(wrong)).await;
            assert!(status == 400 || status == 413, "{wrong}: {status}");
        }
        assert_eq!(
            text(levels(&world, service, Method::GET)).await,
            (200, format!("{asked}\n"))
        );
        for (signal, expected) in [
            (Signal::SIGUSR1, "info,shared=trace\n"),
            (Signal::SIGUSR2, "warn,shared=trace\n"),
            (Signal::SIGUSR2, "error,shared=debug\n"),
        ] {
            service.signal(signal).expect("it runs");
            until(&format!("{expected:?}"), async || {
                let (_, now) = text(levels(&world, service, Method::GET)).await;
                (now == expected).then_some(()).ok_or(now)
            })
            .await;
        }
        assert_eq!(text(put("info,async_nats=debug")).await.0, 200);
        until_logged(
            service,
            "what is logged has changed filter=\"info,async_nats=debug\"",
        )
        .await;
    }
    // At `debug` refused requests are still told; with `off` they are not.
    let ingest = world.stack().ingest(0);
    let get = |id: &str| world.http().get(world.url("/nothing")).header("x-request-id", id);
    assert_eq!(status(get("told")).await, StatusCode::NOT_FOUND);
    until_logged(ingest, "told").await;
    let off = levels(&world, ingest, Method::PUT).body("info,ingest_api::http::request_ids=off");
    assert_eq!(text(off).await.0, 200);
    assert_eq!(status(get("silent")).await, StatusCode::NOT_FOUND);
    let on = levels(&world, ingest, Method::PUT).body("info");
    assert_eq!(text(on).await.0, 200);
    assert_eq!(status(get("told-again")).await, StatusCode::NOT_FOUND);
    until_logged(ingest, "told-again").await;
    assert_eq!(lines(ingest, "silent"), [""; 0]);
    world.finish().await;
}
