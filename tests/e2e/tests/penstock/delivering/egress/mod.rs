//! Where webhooks never go, whatever stands in the table and whatever a name server says. A canary listens on
//! loopback and must hear of no connection.

mod name_servers;
pub(super) mod proxies;

use std::collections::HashSet;

use e2e::{Answer, Attempt, Endpoint, Event, RawReceiver, World, until};
use futures_util::future::join_all;
use serde_json::json;
use uuid::Uuid;

use crate::setup;

/// One JSON string a line, with headings. `PORT` stands for the canary's.
const HOSTILE: &str = include_str!("../../../../../../shared/tests/hostile-urls.txt");

/// The guard takes an empty list for a mistake; nothing is ever at this address.
const ALLOW_NOTHING: &str = "192.0.2.255/32";

/// An organisation may have no more endpoints than some number that is larger than this.
const ENDPOINTS_EACH: usize = 50;

/// Every hostile URL that Postgres can hold.
fn hostile_urls(port: u16) -> Vec<String> {
    let lines = HOSTILE.lines().filter(|line| line.starts_with('"'));
    let urls = lines.map(|line| serde_json::from_str::<String>(line).expect("a line is a JSON string"));
    let urls = urls.filter(|url| !url.contains('\0'));
    urls.map(|url| url.replace("PORT", &port.to_string())).collect()
}

/// Changes an endpoint's URL past the API, which would refuse it.
async fn set_url(world: &World, endpoint: Endpoint, url: &str) {
    let query = sqlx::query("update endpoints set url = $2 where id = $1");
    let done = query.bind(endpoint.id).bind(url).execute(world.database()).await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

/// The endpoints that the worker has called so.
pub(super) fn unusable_endpoints(world: &World) -> Vec<Uuid> {
    let log = world.stack().worker(0).log();
    let lines = log.lines().filter(|line| line.contains("unusable endpoint"));
    let ids: HashSet<_> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix("endpoint_id=")?.parse().ok())
        })
        .collect();
    ids.into_iter().collect()
}

/// How often the worker has put deliveries off for want of something.
async fn put_off(world: &World, lack: &str) -> f64 {
    let name = format!("penstock_deliveries_put_off_total{{lack=\"{lack}\"}}");
    let count = world.gauge(world.stack().worker(0), &name).await;
    count.unwrap_or_default()
}

pub(super) async fn until_put_off(world: &World, lack: &str, times: f64) {
    until("deliveries to be put off", async || {
        match put_off(world, lack).await {
            count if count >= times => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn no_hostile_url_leads_a_worker_to_the_canary() {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let mut world = setup.worker_env("EGRESS_ALLOW", ALLOW_NOTHING).start().await;
    world.tolerate("unusable endpoint");
    // On every address of this machine, of either family.
    let canary = RawReceiver::canary("[::]:0").await;
    let urls = hostile_urls(canary.port());
    assert!(urls.len() >= 150);
    for urls in urls.chunks(ENDPOINTS_EACH) {
        let organization = world.organization().await;
        join_all(urls.iter().map(async |url| {
            let (endpoint, _) = world
                .endpoint_at(
                    &organization,
                    "https://example.com/",
                    json!({"timeout_ms": 20_000}),
                )
                .await;
            set_url(&world, endpoint, url).await;
        }))
        .await;
        world.producer(&organization).send(&Event::new("a", "1")).await;
    }
    // What is no URL gets no webhook; its delivery waits for a worker that knows better, until the endpoint is deleted.
    let unusable = until("every other delivery to be dead", async || {
        let unusable = unusable_endpoints(&world);
        let query = "select count(*) from deliveries where status = 'dead' or endpoint_id = any($1)";
        let query = sqlx::query_scalar(query).bind(&unusable);
        let done: i64 = query
            .fetch_one(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if usize::try_from(done) == Ok(urls.len()) {
            Ok(unusable)
        } else {
            Err(done.to_string())
        }
    })
    .await;
    let delete = sqlx::query("update endpoints set deleted_at = now() where id = any($1)").bind(&unusable);
    delete.execute(world.database()).await.unwrap();
    world.settle().await;
    let query = sqlx::query_as::<_, (String, String)>(
        "select e.url, a.outcome from attempt_history a join endpoints e on e.id = a.endpoint_id",
    );
    let attempts = query.fetch_all(world.database()).await.unwrap();
    let others: Vec<_> = attempts
        .iter()
        .filter(|(_, outcome)| outcome != "refused")
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(attempts.len() + unusable.len(), urls.len());
    assert!(attempts.len() >= 150, "{}", attempts.len());
    assert_eq!(canary.connections(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let location = canary.url();
    receiver.answer(move |webhook| {
        let status = webhook.parse().data.get().parse().unwrap();
        Answer::status(status).with_header("location", &location)
    });
    world.endpoint(&organization, &receiver).await;
    // The receiver's address is one that webhooks may go to, and so is the canary's.
    for status in [301, 302, 303, 307, 308] {
        let event = Event::new("a", status.to_string());
        let id = world.producer(&organization).send(&event).await;
        world.until_delivery_is(id, "dead").await;
        let expected = Attempt {
            number: 1,
            outcome: "redirect".to_owned(),
            response_status: Some(status),
        };
        assert_eq!(world.attempts_of(id).await, [expected]);
    }
    assert_eq!((receiver.requests(), canary.connections()), (5, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let mut setup = setup();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        let lower_case = name.to_lowercase();
        setup = setup
            .worker_env(name, &canary.url())
            .worker_env(&lower_case, &canary.url());
    }
    let setup = setup.worker_env("NO_PROXY", "").worker_env("no_proxy", "");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    assert_eq!(canary.connections(), 0);
    world.finish().await;
}
