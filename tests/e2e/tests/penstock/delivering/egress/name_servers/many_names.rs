//! A name server that knows many names.

use std::net::{IpAddr, Ipv4Addr};

use e2e::{RawReceiver, read_request};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::{PUBLIC, name_server, setup_with};
use crate::calls::send;
use crate::delivering::egress::ENDPOINTS_EACH;

const GENEROUS_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 56);

/// Descriptors of a worker that has far fewer than host names to send to.
const DESCRIPTORS: usize = 160;
const HOST_NAMES: usize = 200;

#[tokio::test]
async fn a_worker_with_few_descriptors_delivers_to_many_host_names() {
    let zone = |_: &str, _| Some(vec![IpAddr::from(PUBLIC)]);
    let Some((_server, script)) = name_server(GENEROUS_NAME_SERVER, "timeout:5", zone).await else {
        return;
    };
    let script = format!("ulimit -n {DESCRIPTORS} && {script}");
    let world = setup_with(&script).start().await;
    // It keeps every connection open, so that only the worker closes any.
    let public = RawReceiver::start(&format!("{PUBLIC}:0"), async |mut stream| {
        loop {
            read_request(&mut stream).await;
            if stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .is_err()
            {
                return;
            }
        }
    })
    .await;
    let mut producers = Vec::new();
    for number in 0..HOST_NAMES / ENDPOINTS_EACH {
        let organization = world.organization().await;
        let url = |host| format!("http://h{host}.o{number}.test:{}/", public.port());
        let urls: Vec<_> = (0..ENDPOINTS_EACH).map(url).collect();
        let patient = json!({"timeout_ms": 20_000});
        // As many as a busy Postgres can take at once.
        for urls in urls.chunks(10) {
            join_all(
                urls.iter()
                    .map(async |url| world.endpoint_at(&organization, url, patient.clone()).await),
            )
            .await;
        }
        producers.push(world.producer(&organization));
    }
    for producer in &producers {
        send(producer, 2).await;
    }
    let count = i64::try_from(2 * HOST_NAMES).expect("it is small");
    world.until_deliveries_are(count, "delivered").await;
    let failed = "select count(*) from attempt_history where outcome <> 'delivered'";
    assert_eq!(world.count(failed).await, 0);
    let log = world.stack().worker(0).log();
    assert!(log.contains("limit of open descriptors"), "{log}");
    world.finish().await;
}
