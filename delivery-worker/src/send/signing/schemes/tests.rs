use shared::secret::SigningSecret;
use shared::signatures::Signature;
use shared::signatures::hmac::Preset;

use crate::send::signing::schemes::*;

fn scheme(preset: Preset, secret: &str) -> Signature {
    let fields = preset.fields();
    Signature {
        scheme: Scheme::Hmac(HmacScheme {
            header: fields.header.to_owned(),
            hash: SignatureHash::Sha256,
            encoding: fields.encoding,
            prefix: fields.prefix.parse().unwrap(),
            signed: fields.signed.parse().unwrap(),
            timestamp_header: fields.timestamp_header.map(str::to_owned),
            secret: secret.as_bytes().to_vec().into(),
        }),
        until: None,
    }
}

fn signed(signatures: &[Signature], timestamp: i64, body: &[u8]) -> HeaderMap {
    let schemes = Schemes::new(&Signatures(signatures.to_vec()), &[]).unwrap();
    let secret = SigningSecret::generate();
    let mut headers = HeaderMap::new();
    let id = EventId::from(uuid::Uuid::from_u128(7));
    let message = Message { id, timestamp, body };
    schemes.sign(&Signer::new(&secret), message, &mut headers);
    headers
}

/// From docs.github.com, "Validating webhook deliveries".
#[test]
fn the_example_of_github_comes_out() {
    let signature = scheme(Preset::Github, "It's a Secret to Everybody");
    assert_eq!(
        signed(&[signature], 1, b"Hello, World!")["x-hub-signature-256"],
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
}

/// From api.slack.com, "Verifying requests from Slack".
#[test]
fn the_example_of_slack_comes_out() {
    let signature = scheme(Preset::Slack, "8f742231b10e8888abcd99yyyzzz85a5");
    let body = b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
    let headers = signed(&[signature], 1_531_420_618, body);
    assert_eq!(
        headers["x-slack-signature"],
        "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"
    );
    assert_eq!(headers["x-slack-request-timestamp"], "1531420618");
}

#[test]
fn schemes_go_out_together_until_their_time() {
    let key_pair = KeyPair::generate();
    let until = |seconds: i64, scheme| Signature {
        scheme,
        until: Some(UnixMicros::new(seconds * 1_000_000)),
    };
    let signatures = [
        until(100, Scheme::Standard),
        Signature {
            scheme: Scheme::Ed25519(key_pair),
            until: None,
        },
        Signature {
            until: Some(UnixMicros::new(200_000_000)),
            ..scheme(Preset::Stripe, "whsec_canary")
        },
    ];
    let names = |timestamp| {
        let headers = signed(&signatures, timestamp, b"{}");
        let entries = headers["webhook-signature"].to_str().unwrap().to_owned();
        let versions: Vec<_> = entries
            .split(' ')
            .map(|entry| entry.split(',').next().unwrap().to_owned())
            .collect();
        (versions.join(" "), headers.contains_key("stripe-signature"))
    };
    assert_eq!(names(99), ("v1 v1a".to_owned(), true));
    assert_eq!(names(100), ("v1a".to_owned(), true));
    assert_eq!(names(200), ("v1a".to_owned(), false));
    let value = signed(&signatures, 99, b"{}")["stripe-signature"].clone();
    assert!(value.to_str().unwrap().starts_with("t=99,v1="), "{value:?}");
}

#[test]
fn an_expired_ed25519_key_signs_no_more() {
    let key_pair = KeyPair::generate().rotated(1_000, std::time::Duration::from_secs(60));
    let (old, _) = key_pair.previous().unwrap();
    let signature = Signature {
        scheme: Scheme::Ed25519(key_pair),
        until: None,
    };
    let entries = |timestamp| {
        let headers = signed(std::slice::from_ref(&signature), timestamp, b"{}");
        headers["webhook-signature"].to_str().unwrap().to_owned()
    };
    let id = EventId::from(uuid::Uuid::from_u128(7));
    let by_old = BASE64.encode(&old.sign(format!("{id}.1059.{{}}").as_bytes()));
    assert!(entries(1_059).ends_with(&format!(" v1a,{by_old}")));
    assert_eq!(entries(1_060).split(' ').count(), 1);
}

#[test]
fn what_the_api_would_refuse_is_not_sent() {
    let twice = [scheme(Preset::Github, "a"), scheme(Preset::Github, "b")];
    let error = Schemes::new(&Signatures(twice.to_vec()), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "signatures[1].header: \"X-Hub-Signature-256\" is sent already, for something else"
    );
}
