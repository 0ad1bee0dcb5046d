//! Client certificates: shown to receivers that ask for one, each on connections of its own, and told of before they expire.

use std::sync::{Arc, Mutex, PoisonError};

use e2e::{Event, Organization, RawReceiver, World};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::Method;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

use crate::calls::{call, json, wrong_fields};
use crate::capture::Capture;
use crate::{setup, world};

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) struct Made {
    pem: String,
    key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are wrong");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("ring makes keys");
    CertifiedIssuer::self_signed(params, key).expect("it can be signed")
}

pub(super) fn made(authority: &Authority, name: &str, expires_at: OffsetDateTime) -> Made {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("it is a name");
    params.not_after = expires_at;
    let key = KeyPair::generate().expect("ring makes keys");
    let certificate = params.signed_by(&key, &**authority).expect("it can be signed");
    Made {
        pem: certificate.pem(),
        key: key.serialize_pem(),
        der: certificate.der().clone(),
        key_der: key.serialize_der(),
    }
}

pub(super) fn in_days(days: i64) -> OffsetDateTime {
    let now = shared::domain::clock::UnixMicros::now().to_date_time();
    (now + Duration::days(days))
        .replace_nanosecond(0)
        .expect("zero is one")
}

/// Takes only connections that show a certificate of `clients`, and keeps it for each request.
async fn receiver(
    server: &Made,
    clients: &Authority,
) -> (RawReceiver, Arc<Mutex<Vec<CertificateDer<'static>>>>) {
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).expect("it is an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config
        .expect("ring speaks them")
        .with_client_cert_verifier(verifier.expect("there is an authority"));
    let key = PrivateKeyDer::try_from(server.key_der.clone()).expect("it was just made");
    let config = config.with_single_cert(vec![server.der.clone()], key);
    let acceptor = TlsAcceptor::from(Arc::new(config.expect("key and certificate belong together")));
    let shown = Arc::<Mutex<Vec<_>>>::default();
    let kept = shown.clone();
    let receiver = RawReceiver::start("127.0.0.1:0", move |stream| {
        let (acceptor, kept) = (acceptor.clone(), kept.clone());
        async move {
            let mut stream = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                Err((_, mut stream)) => {
                    // Read to its end, so that the other side gets to read why.
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                    return;
                }
            };
            let mut request = Vec::new();
            while let Ok(1..) = stream.read_buf(&mut request).await {
                if !request.ends_with(b"}") {
                    continue;
                }
                request.clear();
                let peer = stream.get_ref().1.peer_certificates();
                let peer = peer.expect("it was asked for")[0].clone().into_owned();
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
                if stream
                    .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                    .await
                    .is_err()
                {
                    return;
                }
            }
        }
    })
    .await;
    (receiver, shown)
}

pub(super) fn mtls(client: &Made, ca: &Authority) -> Value {
    json!({"kind": "mtls", "certificate": client.pem, "key": client.key, "ca": ca.pem()})
}

async fn deliver(world: &World, organization: &Organization, status: &str) -> String {
    let event = world.producer(organization).send(&Event::new("a", "{}")).await;
    world.until_delivery_is(event, status).await;
    world
        .attempts_of(event)
        .await
        .pop()
        .expect("there was an attempt")
        .outcome
}

#[tokio::test]
async fn each_endpoint_shows_its_own_certificate_and_shares_no_connection() {
    let world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let (servers, clients, strangers) = (authority(), authority(), authority());
    let later = in_days(300);
    let (receiver, shown) = receiver(&made(&servers, "localhost", later), &clients).await;
    let url = format!("https://localhost:{}/", receiver.port());
    let [first, second] = ["first", "second"].map(|name| made(&clients, name, later));
    let (one, two, other) = (
        world.organization().await,
        world.organization().await,
        world.organization().await,
    );
    for (organization, auth) in [
        (&one, mtls(&first, &servers)),
        (&two, mtls(&second, &servers)),
        (&other, mtls(&made(&strangers, "stranger", later), &servers)),
    ] {
        let fields = json!({"auth": auth, "timeout_ms": 20_000});
        let (endpoint, _) = world.endpoint_at(organization, &url, fields).await;
        let shown = json(call(
            &world,
            organization,
            Method::GET,
            &format!("/{}", endpoint.id),
        ))
        .await;
        let expires_at = shared::domain::clock::Timestamp(later).to_string();
        assert_eq!(
            shown["auth"],
            json!({"kind": "mtls", "certificate_expires_at": expires_at})
        );
    }
    for organization in [&one, &two, &one, &two] {
        assert_eq!(deliver(&world, organization, "delivered").await, "delivered");
    }
    assert_eq!(receiver.connections(), 2, "each was used again");
    assert_eq!(deliver(&world, &other, "dead").await, "tls");
    let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(
        shown,
        [&first, &second, &first, &second].map(|made| made.der.clone())
    );
    // A receiver whose own certificate is of another authority is none.
    let distrusting = world.organization().await;
    let auth = mtls(&first, &strangers);
    let fields = json!({"auth": auth, "timeout_ms": 20_000});
    world.endpoint_at(&distrusting, &url, fields).await;
    assert_eq!(deliver(&world, &distrusting, "dead").await, "tls");
    world.finish().await;
}

#[tokio::test]
async fn an_owner_is_told_once_of_each_certificate_that_expires_within_two_weeks() {
    let world = setup().start().await;
    let (organization, clients) = (world.organization().await, authority());
    let capture = Capture::start().await;
    let types = json!({"event_types": ["endpoint.certificate_expiring"]});
    world.endpoint_at(&organization, &capture.url(), types).await;
    let endpoint = async |days| {
        let auth = mtls(&made(&clients, "client", in_days(days)), &clients);
        let fields = json!({"auth": auth, "event_types": ["never"]});
        let (endpoint, _) = world
            .endpoint_at(&organization, "https://example.com/", fields)
            .await;
        endpoint.id
    };
    let (soon, _later) = (endpoint(13).await, endpoint(15).await);
    let told = |index: usize, webhooks: &[crate::capture::Captured]| -> Value {
        let body: Value = serde_json::from_slice(&webhooks[index].body).expect("a body is JSON");
        assert_eq!(body["type"], "endpoint.certificate_expiring");
        body["data"].clone()
    };
    let first = told(0, &capture.wait_for(1).await);
    assert_eq!(first["endpoint_id"], json!(soon));
    let shown = json(call(&world, &organization, Method::GET, &format!("/{soon}"))).await;
    assert_eq!(
        shown["auth"]["certificate_expires_at"],
        first["certificate_expires_at"]
    );
    // The same certificate is not told of again, another one is.
    let auth = mtls(&made(&clients, "client", in_days(10)), &clients);
    json(call(&world, &organization, Method::PATCH, &format!("/{soon}")).json(&json!({"auth": auth}))).await;
    let webhooks = capture.wait_for(2).await;
    assert_ne!(
        told(1, &webhooks)["certificate_expires_at"],
        first["certificate_expires_at"]
    );
    assert_eq!(webhooks.len(), 2);
    world.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_credentials_is_named() {
    let world = world().await;
    let owner = world.organization().await;
    let wrong = async |url: &str, auth: Value, headers: Value| {
        let fields = json!({"url": url, "auth": auth, "headers": headers});
        wrong_fields(call(&world, &owner, Method::POST, "").json(&fields)).await
    };
    let https = "https://example.com/";
    let none = json!({});
    insta::assert_snapshot!(wrong(https, json!({"kind": "basic", "username": "a:b", "password": "\n"}), none.clone()).await, @r"
    auth.username: must not contain a colon
    auth.password: must have 0 to 1024 bytes without control characters
    ");
    insta::assert_snapshot!(wrong(https, json!({"kind": "basic", "token": "x"}), none.clone()).await, @r"
    auth.token: must not stand beside the kind `basic`
    auth.username: is missing
    auth.password: is missing
    ");
    insta::assert_snapshot!(wrong(https, json!({"kind": "bearer", "token": "a b"}), none.clone()).await, @"auth.token: must have 1 to 8192 bytes of visible ASCII");
    let mut client = json!({"kind": "oauth2_client_credentials", "token_url": "http://169.254.169.254/token", "client_id": "a", "client_secret": "b", "scope": "ü"});
    insta::assert_snapshot!(wrong(https, client.clone(), none.clone()).await, @r"
    auth.token_url: 169.254.169.254 is not a public address
    auth.scope: must have 1 to 1024 bytes of visible ASCII and spaces
    ");
    client["token_url"] = "token".into();
    client["scope"] = Value::Null;
    insta::assert_snapshot!(wrong(https, client, none.clone()).await, @"auth.token_url: not a URL: relative URL without a base");
    insta::assert_snapshot!(wrong(https, json!({"kind": "bearer", "token": "x"}), json!({"authorization": "x"})).await, @"auth: sets `Authorization`, which stands in `headers` too");
    let (clients, other) = (authority(), authority());
    let [good, expired] = [30, -1].map(|days| made(&clients, "client", in_days(days)));
    insta::assert_snapshot!(wrong("http://127.0.0.1/", mtls(&good, &other), none.clone()).await, @"auth.kind: `mtls` needs an https URL");
    insta::assert_snapshot!(wrong(https, mtls(&expired, &other), none.clone()).await, @"auth.certificate: has expired");
    for (field, value, detail) in [
        (
            "certificate",
            "x".to_owned(),
            "certificate: holds no certificate in PEM",
        ),
        (
            "certificate",
            good.key.clone(),
            "certificate: holds no certificate in PEM",
        ),
        (
            "key",
            good.pem.clone(),
            "key: is no unencrypted private key in PEM",
        ),
        ("key", expired.key.clone(), "key: is not the certificate's"),
        ("ca", String::new(), "ca: holds no certificate in PEM"),
        (
            "ca",
            "x".repeat(16_385),
            "ca: must not be longer than 16384 bytes",
        ),
        (
            "certificate",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
            "certificate: is no X.509 certificate",
        ),
    ] {
        let mut auth = mtls(&good, &other);
        auth[field] = value.into();
        assert_eq!(wrong(https, auth, none.clone()).await, format!("auth.{detail}"));
    }
    world.finish().await;
}
