//! What a request costs before it is published: `cargo bench -p ingest-api`.

use divan::Bencher;
use ingest_api::domain::accounts::limit::Limit;
use ingest_api::event::envelope;
use ingest_api::http::answers::rate_headers;
use ingest_api::keys::api_key::{KeyPrefix, KeySecrets};
use ingest_api::keys::moment::Moment;
use ingest_api::limits::limiter::{AccountId, RateLimiter};
use shared::domain::id::OrgId;

fn main() {
    divan::main();
}

fn key() -> (KeySecrets, String) {
    let secrets_key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse();
    let secrets = KeySecrets::new(&secrets_key.expect("it is 32 bytes in base64"), &[]);
    let key = secrets
        .generate(KeyPrefix::Penstock)
        .expect("there is memory for argon2");
    let text = serde_json::to_string(&key.text).expect("a key is a string");
    (secrets, text.trim_matches('"').to_owned())
}

#[divan::bench]
fn a_key_in_use_is_hashed(bencher: Bencher<'_, '_>) {
    let (secrets, key) = key();
    bencher.bench_local(|| secrets.digest(&key));
}

#[divan::bench]
fn the_clock_is_read_once_for_a_key(bencher: Bencher<'_, '_>) {
    bencher.bench_local(Moment::now);
}

#[divan::bench]
fn a_key_that_is_not_in_memory_is_recognised(bencher: Bencher<'_, '_>) {
    let (secrets, key) = key();
    bencher.bench_local(|| secrets.recognise(&key).is_some());
}

#[divan::bench(args = [1, 1_000, 100_000])]
fn an_organisation_is_charged(bencher: Bencher<'_, '_>, organisations: usize) {
    let limiter = RateLimiter::new();
    let limit = Limit::per_minute(60_000_000);
    let organisations: Vec<_> = (0..organisations)
        .map(|_| AccountId::from(OrgId::generate()))
        .collect();
    let mut turns = organisations.iter().cycle();
    bencher.bench_local(|| {
        let org_id = turns.next().expect("a cycle has no end");
        limiter.check(*org_id, limit, 1)
    });
}

#[divan::bench]
fn the_headers_of_a_limit_are_written(bencher: Bencher<'_, '_>) {
    let decision = RateLimiter::new().check(OrgId::generate().into(), Limit::per_minute(1_000), 1);
    bencher.bench_local(|| {
        let mut headers = axum::http::HeaderMap::with_capacity(8);
        rate_headers::write(&decision, &mut headers);
        headers
    });
}

#[divan::bench]
fn a_body_of_500_bytes_is_checked(bencher: Bencher<'_, '_>) {
    let body = format!(
        r#"{{"type":"order.created","data":{{"text":"{}"}}}}"#,
        "x".repeat(455)
    );
    bencher.bench_local(|| envelope::parse(body.as_bytes()).is_ok());
}
