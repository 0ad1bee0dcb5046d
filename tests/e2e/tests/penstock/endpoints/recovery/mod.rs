//! What became of an endpoint's deliveries, delivering again, and removing payloads: what the API does to the tables.

mod payloads;
mod lists;

use e2e::{Answer, Event, Organization, World};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};
use shared::domain::clock::UnixMicros;
use shared::domain::id::{EndpointId, EventId};

use crate::calls::{answer, call, json, request, status};
use crate::{setup, world};

/// Stores an event and its delivery as a worker would have left them.
async fn stored(
    world: &World,
    endpoint: EndpointId,
    status: &str,
    outcome: &str,
    minutes_ago: i64,
) -> EventId {
    let accepted_at = UnixMicros::new(UnixMicros::now().get() - minutes_ago * 60_000_000);
    let id = EventId::at(accepted_at);
    let query = sqlx::query(
        "with event as (
             insert into events (org_id, accepted_at, id, type, content_type, data)
             select org_id, $2, $1, 'a', 'application/json', '1' from endpoints where id = $3
             returning org_id
         )
         insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, attempts, last_outcome,
                                 next_attempt_at, finished_at)
         select org_id, $1, $3, $2, $4, 2, $5,
                case when $4 = 'pending' then now() + interval '1 hour' + $6 * interval '1 minute' end,
                case when $4 <> 'pending' then now() end
         from event",
    );
    let query = query.bind(id).bind(accepted_at.to_date_time()).bind(endpoint);
    let query = query.bind(status).bind(outcome).bind(minutes_ago);
    query.execute(world.database()).await.expect("Postgres runs");
    id
}

/// An endpoint that nothing is sent to.
async fn quiet_endpoint(world: &World, owner: &Organization) -> EndpointId {
    let body = json!({"url": "https://example.com/"});
    let made = json(call(world, owner, Method::POST, "").json(&body)).await;
    serde_json::from_value(made["id"].clone()).expect("an endpoint has an id")
}

/// A dead delivery of an event, at a receiver that takes everything from now on.
async fn dead(world: &World, owner: &Organization, receiver: &e2e::Receiver) -> EventId {
    receiver.answer(|_| Answer::status(500));
    let id = world.producer(owner).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "dead").await;
    receiver.answer(|_| Answer::status(204));
    id
}

fn on_event(
    world: &World,
    owner: &Organization,
    method: Method,
    id: EventId,
    action: &str,
) -> RequestBuilder {
    request(world, 0, method, &format!("/v1/events/{id}{action}"), &owner.key)
}

#[tokio::test]
async fn a_dead_delivery_is_made_again_by_replay_and_by_retry() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&owner, &receiver).await.id;
    let retry = format!("/deliveries/{endpoint}/retry");
    for action in ["/replay", &retry] {
        let id = dead(&world, &owner, &receiver).await;
        let refused = on_event(&world, &stranger, Method::POST, id, action);
        assert_eq!(status(refused).await, 404);
        let again = on_event(&world, &owner, Method::POST, id, action)
            .send()
            .await
            .unwrap();
        assert_eq!(again.status(), 202);
        let again: Value = again.json().await.unwrap();
        assert_eq!(again, json!({"id": id, "endpoint_ids": [endpoint]}));
        assert_eq!(world.until_delivery_is(id, "delivered").await.attempts, 2);
        let revived = sqlx::query_as::<_, (bool, i32)>(
            "select revived_at > accepted_at, attempts_before from deliveries where event_id = $1",
        );
        let revived = revived.bind(id).fetch_one(world.database()).await.unwrap();
        assert_eq!(revived, (true, 1), "the retry policy starts over");
        assert_eq!(receiver.webhooks_of(id).len(), 2);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_delivered_event_is_replayed_to_an_endpoint_that_never_had_it() {
    let mut world = setup().start().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let (old, new) = (world.receiver().await, world.receiver().await);
    world.endpoint(&owner, &old).await;
    let id = world.producer(&owner).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let late = world.endpoint(&owner, &new).await.id;
    let foreign = quiet_endpoint(&world, &stranger).await;
    let replay = |endpoint: EndpointId| {
        on_event(&world, &owner, Method::POST, id, "/replay").json(&json!({"endpoint_id": endpoint}))
    };
    let again = json(replay(late)).await;
    assert_eq!(again["endpoint_ids"], json!([late]));
    new.wait_for(1).await;
    assert_eq!(old.count(), 1, "only to the endpoint that is named");
    world.until_deliveries_are(2, "delivered").await;
    let both = json(on_event(&world, &owner, Method::POST, id, "/replay")).await;
    assert_eq!(both["endpoint_ids"].as_array().unwrap().len(), 2);
    old.wait_for(2).await;
    new.wait_for(2).await;

    insta::assert_snapshot!(answer(replay(foreign)).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: endpoint_id","errors":[{"field":"endpoint_id","detail":"is not an endpoint of the organisation"}]}
    "#);
    let disabled = quiet_endpoint(&world, &owner).await;
    let disable = call(&world, &owner, Method::PATCH, &format!("/{disabled}"));
    json(disable.json(&json!({"status": "disabled"}))).await;
    insta::assert_snapshot!(answer(replay(disabled)).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is disabled"}
    "#);
    let retry = format!("/deliveries/{disabled}/retry");
    assert_eq!(
        status(on_event(&world, &owner, Method::POST, id, &retry)).await,
        404
    );
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_with_an_attempt_in_progress_is_not_touched() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&owner, &receiver, fields).await.id;
    let id = world.producer(&owner).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.until_delivery_is(id, "pending").await;
    let retry = format!("/deliveries/{endpoint}/retry");
    insta::assert_snapshot!(answer(on_event(&world, &owner, Method::POST, id, &retry)).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"an attempt of this delivery is in progress"}
    "#);
    let all = json(on_event(&world, &owner, Method::POST, id, "/replay")).await;
    assert_eq!(all["endpoint_ids"], json!([]));
    receiver.release();
    assert_eq!(world.until_delivery_is(id, "delivered").await.attempts, 1);
    world.finish().await;
}

/// Each wrong field is named.
async fn wrong_recoveries_are_refused(recover: impl Fn(Value) -> RequestBuilder) {
    insta::assert_snapshot!(answer(recover(json!({"since": "2999-01-01T00:00:00Z", "statuses": [], "per_second": 0}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: since, statuses, per_second","errors":[{"field":"since","detail":"must be before `until`, which is now unless given"},{"field":"statuses","detail":"must name at least one status"},{"field":"per_second","detail":"must be 1 to 10000"}]}
    "#);
    insta::assert_snapshot!(answer(recover(json!({}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: body","errors":[{"field":"body","detail":"missing field `since` at line 1 column 2"}]}
    "#);
    insta::assert_snapshot!(answer(recover(json!({"since": "noon"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: since","errors":[{"field":"since","detail":"the 'year' component could not be parsed at line 1 column 15"}]}
    "#);
}

#[tokio::test]
async fn a_recovery_is_written_down_for_the_workers_and_can_be_cancelled() {
    let mut world = world().await;
    let owner = world.organization().await;
    let endpoint = quiet_endpoint(&world, &owner).await;
    for (status, minutes) in [
        ("dead", 1),
        ("dead", 2),
        ("dead", 90),
        ("delivered", 3),
        ("pending", 4),
    ] {
        stored(&world, endpoint, status, "status", minutes).await;
    }
    let expunged = stored(&world, endpoint, "dead", "status", 5).await;
    assert_eq!(
        status(on_event(&world, &owner, Method::DELETE, expunged, "/data")).await,
        204
    );
    let hour_ago = UnixMicros::new(UnixMicros::now().get() - 3_600_000_000).to_date_time();
    let hour_ago = shared::domain::clock::Timestamp(hour_ago).to_string();
    let recover =
        |body: Value| call(&world, &owner, Method::POST, &format!("/{endpoint}/recover")).json(&body);
    let started = recover(json!({"since": hour_ago})).send().await.unwrap();
    assert_eq!(started.status(), 202);
    let started: Value = started.json().await.unwrap();
    for (field, value) in [
        ("status", json!("running")),
        ("statuses", json!(["dead"])),
        ("per_second", json!(100)),
        ("matched", json!(2)),
        ("recovered", json!(0)),
        ("since", json!(hour_ago)),
    ] {
        assert_eq!(started[field], value, "{field}");
    }
    let both = json!({"since": hour_ago, "statuses": ["delivered", "dead"], "per_second": 7});
    insta::assert_snapshot!(answer(recover(both.clone())).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"another recovery of the endpoint is running: wait for its end, or cancel it"}
    "#);
    let path = format!("/{endpoint}/recoveries/{}", started["id"].as_str().unwrap());
    assert_eq!(json(call(&world, &owner, Method::GET, &path)).await, started);
    for _ in 0..2 {
        assert_eq!(status(call(&world, &owner, Method::DELETE, &path)).await, 204);
    }
    let cancelled = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["finished_at"].is_string());
    let next = json(recover(both)).await;
    assert_eq!(
        (&next["statuses"], &next["matched"], &next["per_second"]),
        (&json!(["dead", "delivered"]), &json!(3), &json!(7))
    );
    let list = json(call(
        &world,
        &owner,
        Method::GET,
        &format!("/{endpoint}/recoveries"),
    ))
    .await;
    assert_eq!(list["data"], json!([next, cancelled]));

    wrong_recoveries_are_refused(recover).await;
    let stranger = world.organization().await;
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(status(call(&world, &stranger, method, &path)).await, 404);
    }
    let delete = call(&world, &owner, Method::DELETE, &format!("/{endpoint}"));
    assert_eq!(status(delete).await, 204);
    let running = "select count(*) from recoveries where status = 'running'";
    assert_eq!(world.count(running).await, 1, "it is left to a worker");
    world.stack_mut().add_worker().await.expect("a worker starts");
    world
        .until_count_is("it ends with its endpoint", running, 0)
        .await;
    world.finish().await;
}

#[tokio::test]
async fn of_two_recoveries_at_once_one_is_made() {
    let world = world().await;
    let owner = world.organization().await;
    let endpoint = quiet_endpoint(&world, &owner).await;
    let body = json!({"since": "2020-01-01T00:00:00Z"});
    let recover = || status(call(&world, &owner, Method::POST, &format!("/{endpoint}/recover")).json(&body));
    let answers = futures_util::future::join_all((0..8).map(|_| recover())).await;
    let made = answers.iter().filter(|status| status.as_u16() == 202).count();
    assert_eq!(made, 1, "{answers:?}");
    assert!(
        answers.iter().all(|status| [202, 409].contains(&status.as_u16())),
        "{answers:?}"
    );
    world.finish().await;
}
