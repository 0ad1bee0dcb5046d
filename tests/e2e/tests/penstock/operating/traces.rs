//! Traces, as a collector and a receiver see them.

use std::time::{Duration, Instant};

use e2e::{Answer, CollectedSpan, Collector, Event, Setup, Signal, Webhook, accepted};
use reqwest_middleware::RequestBuilder;
use serde_json::json;
use tokio::net::TcpListener;

use crate::capture::free_port;
use crate::setup;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PRODUCER: &str = "00f067aa0ba902b7";

/// Sets a variable of both services.
fn with_env(setup: Setup, name: &str, value: &str) -> Setup {
    setup.ingest_env(name, value).worker_env(name, value)
}

/// One replica of each service, traced by a collector.
fn traced(url: &str) -> Setup {
    let setup = with_env(setup(), "OTEL_EXPORTER_OTLP_ENDPOINT", url);
    with_env(setup, "OTEL_BSP_SCHEDULE_DELAY", "50")
}

/// Adds a producer's trace context.
fn in_trace(request: RequestBuilder, flags: &str) -> RequestBuilder {
    request
        .header("traceparent", format!("00-{TRACE}-{PRODUCER}-{flags}"))
        .header("tracestate", "vendor=1")
        .header("baggage", "plan=pro")
}

fn header<'a>(webhook: &'a Webhook, name: &str) -> Option<&'a str> {
    let value = webhook.headers.get(name)?;
    Some(value.to_str().expect("it is ASCII"))
}

/// What spans tell under a name, in their order.
fn told<'a>(spans: &'a [CollectedSpan], name: &str) -> Vec<&'a str> {
    let values = spans.iter().map(|span| span.attributes.get(name));
    values.map(|value| value.map_or("", String::as_str)).collect()
}

#[tokio::test]
async fn one_trace_tells_of_an_event_from_its_producer_to_its_receiver_over_two_workers() {
    let collector = Collector::start().await;
    let setup = traced(&collector.url());
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match webhook.number {
        1 => Answer::status(500),
        // Its worker stops meanwhile, and makes no further attempt.
        2 => Answer::status(500).held(),
        _ => Answer::status(204),
    });
    let patient = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, patient).await;
    let producer = world.producer(&organization);
    let request = in_trace(producer.post_event(Event::new("a", "1").body()), "01");
    let id = accepted(request.send().await.unwrap()).await;
    receiver.wait_for(2).await;
    world.stack().worker(0).signal(Signal::SIGTERM).unwrap();
    world.until_worker_logs("stopping").await;
    receiver.release();
    assert!(world.until_worker_ends().await.success());
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.until_delivery_is(id, "delivered").await;

    let request = &collector.wait_for("POST /v1/events", 1).await[0];
    assert_eq!(request.parent, PRODUCER);
    assert_eq!(request.attributes["http.response.status_code"], "202");
    assert_eq!(request.resource["service.name"], "ingest-api");
    let id = id.to_string();
    for name in ["publish event", "store event"] {
        let spans = collector.wait_for(name, 1).await;
        assert_eq!(told(&spans, "penstock.event.id"), [id.as_str()], "{name}");
        assert_eq!(spans[0].parent, request.id, "{name}");
    }
    let mut attempts = collector.wait_for("deliver event", 3).await;
    attempts.sort_by_key(|span| span.attributes["penstock.attempt"].clone());
    assert_eq!(told(&attempts, "penstock.attempt"), ["1", "2", "3"]);
    let outcomes = told(&attempts, "penstock.outcome");
    assert_eq!(outcomes, ["status", "status", "delivered"]);
    assert_eq!(
        told(&attempts, "http.response.status_code"),
        ["500", "500", "204"]
    );
    assert_eq!(told(&attempts, "penstock.next"), ["retry", "retry", "delivered"]);
    let due = told(&attempts, "penstock.next_attempt_at");
    assert!(
        due[0].ends_with('Z') && due[0] < due[1] && due[2].is_empty(),
        "{due:?}"
    );
    let endpoint = endpoint.id.to_string();
    assert_eq!(told(&attempts, "penstock.endpoint.id"), [endpoint.as_str(); 3]);
    assert!(attempts.iter().all(|span| span.parent == request.id));
    let failed: Vec<_> = attempts.iter().map(|span| span.has_failed).collect();
    assert_eq!(failed, [true, true, false]);
    let worker = |span: &CollectedSpan| span.resource["service.instance.id"].clone();
    assert_eq!(worker(&attempts[0]), worker(&attempts[1]));
    assert_ne!(worker(&attempts[1]), worker(&attempts[2]), "another worker");

    let spans = collector.spans();
    assert_eq!(spans.len(), 6);
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:?}");
    for (webhook, attempt) in receiver.webhooks().iter().zip(&attempts) {
        let own = format!("00-{TRACE}-{}-01", attempt.id);
        assert_eq!(header(webhook, "traceparent"), Some(own.as_str()));
        assert_eq!(header(webhook, "tracestate"), Some("vendor=1"));
        assert_eq!(header(webhook, "baggage"), Some("plan=pro"));
    }
    world.finish().await;
}

#[tokio::test]
async fn what_an_event_carries_on_replaces_no_signature() {
    let collector = Collector::start().await;
    let mut world = traced(&collector.url()).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let hmac = json!({"scheme": "hmac", "header": "Baggage", "prefix": "signature=", "secret": "x"});
    let fields = json!({"signatures": [{"scheme": "standard"}, hmac]});
    world.endpoint_with(&organization, &receiver, fields).await;
    let event = world
        .producer(&organization)
        .post_event(Event::new("a", "1").body());
    accepted(in_trace(event, "01").send().await.unwrap()).await;
    let webhook = &receiver.wait_for(1).await[0];
    let signature = header(webhook, "baggage").expect("it is sent");
    assert!(signature.starts_with("signature="), "{signature}");
    world.finish().await;
}

#[tokio::test]
async fn a_batch_is_one_request_with_spans_for_each_of_its_events() {
    let collector = Collector::start().await;
    let world = traced(&collector.url()).start().await;
    let organization = world.organization().await;
    let batch: Vec<_> = (0..3)
        .map(|number| json!({"type": "a", "data": number}))
        .collect();
    let request = world
        .producer(&organization)
        .post("/v1/events/batch")
        .json(&batch);
    assert_eq!(request.send().await.unwrap().status(), 202);
    let requests = collector.wait_for("POST /v1/events/batch", 1).await;
    assert_eq!((requests.len(), requests[0].parent.as_str()), (1, ""));
    for name in ["publish event", "store event"] {
        let spans = collector.wait_for(name, 3).await;
        assert!(
            spans.iter().all(|span| span.parent == requests[0].id),
            "{spans:?}"
        );
        let mut ids = told(&spans, "penstock.event.id");
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 3, "{name}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_request_whose_client_goes_before_its_answer_has_its_spans() {
    let collector = Collector::start().await;
    let mut world = traced(&collector.url()).start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    world.stack_mut().nats_mut().signal(Signal::SIGSTOP).unwrap();
    let request = producer.post_event(Event::new("a", "2").body());
    let answer = request.timeout(Duration::from_millis(300)).send().await;
    assert!(answer.is_err(), "NATS hangs: {answer:?}");
    for name in ["POST /v1/events", "publish event"] {
        let spans = collector.wait_for(name, 2).await;
        assert_eq!(
            spans.iter().filter(|span| span.has_failed).count(),
            1,
            "{spans:?}"
        );
    }
    world.stack_mut().nats_mut().signal(Signal::SIGCONT).unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_goes_on_as_one_that_is_not() {
    let collector = Collector::start().await;
    let setup = traced(&collector.url())
        .ingest_env("OTEL_TRACES_SAMPLER", "traceidratio")
        .ingest_env("OTEL_TRACES_SAMPLER_ARG", "0")
        .ingest_env("OTEL_PROPAGATORS", "tracecontext");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let request = in_trace(producer.post_event(Event::new("a", "1").body()), "00");
    let id = accepted(request.send().await.unwrap()).await;
    let other = producer.send(&Event::new("a", "2")).await;
    let request = in_trace(producer.post_event(Event::new("a", "3").body()), "01");
    let ended = accepted(request.send().await.unwrap()).await;
    receiver.wait_for(3).await;
    let given = format!("00-{TRACE}-{PRODUCER}-00");
    let webhook = &receiver.webhooks_of(id)[0];
    assert_eq!(header(webhook, "traceparent"), Some(given.as_str()));
    assert_eq!(header(webhook, "tracestate"), Some("vendor=1"));
    assert_eq!(header(webhook, "baggage"), None);
    assert_eq!(header(&receiver.webhooks_of(other)[0], "traceparent"), None);
    let webhook = &receiver.webhooks_of(ended)[0];
    assert_eq!(
        header(webhook, "traceparent"),
        Some(given.as_str()),
        "it is recorded no further"
    );
    // Every process sends its last spans when it ends.
    world.finish().await;
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn nothing_is_traced_unless_an_endpoint_is_set_and_in_use() {
    let collector = Collector::start().await;
    let disabled = with_env(traced(&collector.url()), "OTEL_SDK_DISABLED", "true");
    let without = with_env(setup(), "OTEL_SERVICE_NAME", "mine");
    for setup in [disabled, without] {
        let mut world = setup.start().await;
        let organization = world.organization().await;
        let receiver = world.receiver().await;
        world.endpoint(&organization, &receiver).await;
        let producer = world.producer(&organization);
        let request = in_trace(producer.post_event(Event::new("a", "1").body()), "01");
        accepted(request.send().await.unwrap()).await;
        let webhook = &receiver.wait_for(1).await[0];
        let given = format!("00-{TRACE}-{PRODUCER}-01");
        assert_eq!(header(webhook, "traceparent"), Some(given.as_str()));
        assert_eq!(header(webhook, "tracestate"), Some("vendor=1"));
        assert_eq!(header(webhook, "baggage"), None);
        world.finish().await;
    }
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}

#[tokio::test]
async fn a_collector_that_hangs_or_is_away_costs_neither_events_nor_time() {
    const EVENTS: usize = 60;
    const TIMEOUT: Duration = Duration::from_secs(25);
    const DROPPED: &str = "penstock_trace_spans_dropped_total";
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://127.0.0.1:{}", free_port());
    let setup = traced(&format!("http://{}", hanging.local_addr().unwrap()));
    let setup = setup.worker_env("OTEL_EXPORTER_OTLP_ENDPOINT", &away);
    let setup = with_env(setup, "OTEL_BSP_MAX_QUEUE_SIZE", "10");
    let timeout = TIMEOUT.as_millis().to_string();
    let mut world = with_env(setup, "OTEL_EXPORTER_OTLP_TIMEOUT", &timeout)
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let started = Instant::now();
    for number in 0..EVENTS {
        producer.send(&Event::new("a", number.to_string())).await;
    }
    receiver.wait_for(EVENTS).await;
    assert!(started.elapsed() < TIMEOUT, "somebody waited for the collector");
    assert!(world.metric(0, DROPPED).await > 0, "the queue is full");
    e2e::until("spans to be dropped by the worker", async || {
        match world.gauge(world.stack().worker(0), DROPPED).await {
            Some(dropped) if dropped > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // All processes end in time.
    world.finish().await;
    drop(hanging);
}
