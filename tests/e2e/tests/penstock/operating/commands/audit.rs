//! `delivery-worker audit`: what it finds, and what it makes of it.

use std::process::Output;

use e2e::{Answer, Event, Organization, World};
use serde_json::{Value, json};

use super::worker_command;
use crate::operating::retention::{disabled_endpoint, old_event};
use crate::setup;

async fn audit(world: &World, args: &[&str]) -> Output {
    let output = worker_command(world, "audit").args(args).output().await;
    output.expect("the program can be run")
}

/// The status and the JSON.
async fn audit_json(world: &World) -> (Option<i32>, Value) {
    let output = audit(world, &["--since", "1h", "--json"]).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    let audit = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
    (output.status.code(), audit)
}

fn counts(pairs: &[(&str, i64)]) -> Value {
    pairs
        .iter()
        .map(|(what, count)| json!({"what": what, "count": count}))
        .collect()
}

#[tokio::test]
async fn where_everything_is_finished_an_audit_says_so() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    world.streams_are_drained().await;

    let (status, audit) = audit_json(&world).await;
    assert_eq!(status, Some(0));
    assert_eq!(audit["streams"][0]["name"], "EVENTS-0");
    for nothing in ["frames", "pending", "ack_pending"] {
        assert_eq!(audit["streams"][0][nothing], 0, "{nothing}");
    }
    assert_eq!(
        (&audit["events"], &audit["events_without_deliveries"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(audit["deliveries"], counts(&[("delivered", 1)]));
    for nothing in ["overdue", "keeping_days", "dead", "quarantine"] {
        assert_eq!(audit[nothing], json!([]), "{nothing}");
    }
    usage_outlives_its_events(&world, &organization).await;
    world.finish().await;
}

/// Of a day without partitions of its own, whose events are removed one by one.
async fn usage_outlives_its_events(world: &World, organization: &Organization) {
    let at = "date_trunc('hour', now(), 'UTC') - interval '50 days'";
    world
        .execute(format!(
            "insert into usage_hours (hour, counted_at, state, open_since) values ({at}, now(), 'settled', now());
             insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
             values ('{}', ({at}) at time zone 'UTC', '', extract(hour from ({at}) at time zone 'UTC'), 1, 1, 0, 0, 0)",
            organization.id
        ))
        .await;
    let output = audit(world, &["--since", "60days"]).await;
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

#[tokio::test]
async fn what_is_not_finished_is_counted_by_the_reason_and_what_is_stuck_fails_the_audit() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    // Nobody wants it.
    producer.send(&Event::new("a", "1")).await;
    world.streams_are_drained().await;

    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    world.endpoint(&organization, &receiver).await;
    let dead = producer.send(&Event::new("a", "2")).await;
    world.until_delivery_is(dead, "dead").await;
    world.streams_are_drained().await;
    receiver.answer(|_| Answer::status(204));

    world.stack_mut().worker_mut(0).kill().await.unwrap();
    producer.send(&Event::new("a", "3")).await;
    let (status, audit) = audit_json(&world).await;
    assert_eq!(status, Some(0), "a frame that waits is not stuck");
    // More than one when its acknowledgement came late, and it was sent again.
    let frames = &audit["streams"][0]["frames"];
    assert!(frames.as_u64() >= Some(1), "{frames}");
    assert_eq!(
        (&audit["events"], &audit["events_without_deliveries"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(audit["deliveries"], counts(&[("dead", 1)]));
    assert_eq!(audit["dead"][0]["count"], 1);

    overdue_is_explained(&mut world).await;
    quarantine_is_stuck(&world).await;
    world.finish().await;
}

/// Of a delivery that has been due for long, whenever its event was accepted, with the worker away.
async fn overdue_is_explained(world: &mut World) {
    world
        .execute("update deliveries set status = 'pending', next_attempt_at = now() - interval '50 minutes'")
        .await;
    let reason = async |world: &World| {
        let (status, audit) = audit_json(world).await;
        assert_eq!(
            audit["overdue"]
                .as_array()
                .expect("it is what the test wrote")
                .len(),
            1,
            "{audit}"
        );
        let overdue = &audit["overdue"][0];
        assert_eq!(
            (status == Some(1), &overdue["deliveries"]),
            (overdue["stuck"] == true, &json!(1))
        );
        (
            overdue["reason"]
                .as_str()
                .expect("it is what the test wrote")
                .to_owned(),
            status,
        )
    };
    assert_eq!(reason(world).await, ("backlog".to_owned(), Some(1)));
    // An event that was accepted before it is counted as overdue all the same.
    let text = audit(world, &["--since", "0s"]).await;
    let (printed, error) = (
        String::from_utf8_lossy(&text.stdout),
        String::from_utf8_lossy(&text.stderr),
    );
    assert!(printed.contains("backlog: STUCK"), "{printed}");
    assert!(error.contains("stuck: 1 deliveries to "), "{error}");

    world
        .execute("update deliveries set lease_token = gen_random_uuid()")
        .await;
    assert_eq!(reason(world).await, ("lease ran out".to_owned(), Some(1)));
    world
        .execute(
            "insert into endpoint_health
             select id, org_id, 5, now(), now() + interval '1 minute' from endpoints
             on conflict (endpoint_id) do update set open_until = excluded.open_until",
        )
        .await;
    assert_eq!(reason(world).await, ("circuit open".to_owned(), Some(0)));
    world
        .execute("update endpoint_health set open_until = null, waits_until = now() + interval '1 minute'")
        .await;
    let asked = ("receiver asked to wait".to_owned(), Some(0));
    assert_eq!(reason(world).await, asked);
    world.execute("update endpoints set status = 'disabled'").await;
    assert_eq!(reason(world).await, ("endpoint disabled".to_owned(), Some(0)));

    world
        .execute("update endpoints set status = 'enabled', tenant_enabled = false")
        .await;
    world.execute("delete from endpoint_health").await;
    assert_eq!(reason(world).await, ("tenant disabled".to_owned(), Some(0)));

    world.execute("update endpoints set tenant_enabled = true").await;
    world
        .stack_mut()
        .worker_mut(0)
        .start()
        .await
        .expect("Postgres answers");
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(audit_json(world).await.0, Some(0));
}

/// Such as the first of a key that its receiver never accepts: it is tried again and again, and never overdue.
#[tokio::test]
async fn an_audit_names_the_endpoints_whose_deliveries_keep_days_past_the_retention() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    old_event(&world, &organization, endpoint, 40, "pending").await;
    old_event(&world, &organization, endpoint, 40, "delivered").await;
    old_event(&world, &organization, endpoint, 20, "pending").await;
    world
        .execute("update deliveries set next_attempt_at = now() + interval '1 hour' where status = 'pending'")
        .await;
    let (_, audit) = audit_json(&world).await;
    assert_eq!(audit["overdue"], json!([]));
    let keeping = &audit["keeping_days"];
    assert_eq!(keeping.as_array().map(Vec::len), Some(1), "{keeping}");
    assert_eq!(
        (
            &keeping[0]["endpoint_id"],
            &keeping[0]["org_id"],
            &keeping[0]["deliveries"]
        ),
        (&json!(endpoint.id), &json!(organization.id), &json!(1))
    );
    world.finish().await;
}

async fn quarantine_is_stuck(world: &World) {
    world
        .execute(
            "insert into quarantine (stream, sequence, position, reason, bytes, set_aside_at)
             values ('EVENTS-0', 1, -1, 'out of luck', '', now() - interval '40 days')",
        )
        .await;
    let (status, audit) = audit_json(world).await;
    assert_eq!(
        (status, &audit["quarantine"]),
        (Some(1), &counts(&[("out of luck", 1)]))
    );
    world.execute("delete from quarantine").await;
}

#[tokio::test]
async fn an_audit_says_which_setting_or_server_is_wrong() {
    let mut world = setup().start().await;
    let output = audit(&world, &["--since", "yesterday"]).await;
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("--since") && error.contains("neither an RFC 3339 time nor a duration"),
        "{error}"
    );
    world.stack_mut().nats_mut().kill().await.unwrap();
    let output = audit(&world, &[]).await;
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot read the streams"), "{error}");
    world.stack_mut().nats_mut().start().await.unwrap();
    world.finish().await;
}
