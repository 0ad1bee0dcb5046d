use super::KeyPrefix::{Penstock, Zapier};
use super::*;

fn secrets() -> KeySecrets {
    let key = data_encoding::BASE64.encode(&random_bytes::<32>());
    KeySecrets::new(&key.parse().unwrap(), &[])
}

#[test]
fn a_new_key_is_recognised_and_only_it_verifies() {
    let secrets = secrets();
    let key = secrets.generate(Penstock).unwrap();
    let recognised = secrets.recognise(key.text.as_str()).unwrap();
    assert_eq!(recognised.id(), key.id);
    assert!(
        key.hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"),
        "{}",
        key.hash
    );
    assert!(verify(key.text.as_str(), &key.hash).unwrap());
    let other = secrets.generate(Penstock).unwrap();
    assert!(!verify(other.text.as_str(), &key.hash).unwrap());
    let shown = format!("{recognised:?}{key:?}{secrets:?}");
    assert!(!shown.contains(key.text.as_str()), "{shown}");
}

#[test]
fn a_hash_of_an_earlier_release_is_verified_with_the_parameters_it_was_made_with() {
    let params = Params::new(19_456, 2, 1, None).unwrap();
    let earlier = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = earlier.hash_password(b"pk_live_a_b").unwrap().to_string();
    assert!(hash.contains("m=19456,t=2,p=1"), "{hash}");
    assert!(verify("pk_live_a_b", &hash).unwrap());
    assert!(!verify("pk_live_a_c", &hash).unwrap());
}

#[test]
fn a_key_with_any_other_character_is_not_recognised() {
    let secrets = secrets();
    let good = secrets.generate(Penstock).unwrap().text.as_str().to_owned();
    for position in "pk_live_".len()..good.len() {
        let mut wrong = good.clone().into_bytes();
        wrong[position] = if wrong[position] == b'a' { b'b' } else { b'a' };
        let wrong = String::from_utf8(wrong).unwrap();
        assert!(secrets.recognise(&wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_key_is_recognised_under_its_own_prefix_only() {
    let secrets = secrets();
    for (own, other) in [(Penstock, Zapier), (Zapier, Penstock)] {
        let key = secrets.generate(own).unwrap();
        assert!(key.text.as_str().starts_with(own.as_str()));
        assert!(verify(key.text.as_str(), &key.hash).unwrap());
        assert_eq!(secrets.recognise(key.text.as_str()).unwrap().id(), key.id);
        let exchanged = key.text.as_str().replacen(own.as_str(), other.as_str(), 1);
        assert!(secrets.recognise(&exchanged).is_none());
    }
}

#[test]
fn text_that_was_not_made_here_is_not_recognised() {
    let secrets = secrets();
    let good = secrets.generate(Penstock).unwrap().text.as_str().to_owned();
    let foreign = self::secrets()
        .generate(Penstock)
        .unwrap()
        .text
        .as_str()
        .to_owned();
    let upper = good.to_uppercase();
    let longer = format!("{good}a");
    let unlike = ["", "pk_live_", "pk_live_a_b", &good[1..], &good[..good.len() - 1]];
    for wrong in unlike.into_iter().chain([&*upper, &*longer, &*foreign]) {
        assert!(secrets.recognise(wrong).is_none(), "{wrong}");
    }
}

#[test]
fn a_key_of_an_earlier_secrets_key_is_recognised_while_that_or_its_check_is_there() {
    let text = || data_encoding::BASE64.encode(&random_bytes::<32>());
    let (old, new) = (text(), text());
    let before = KeySecrets::new(&old.parse().unwrap(), &[]);
    let key = before.generate(Penstock).unwrap();
    let key = key.text.as_str();
    let rotating = SecretsKey::of_list(&format!("{new},{old}")).unwrap();
    let rotating = KeySecrets::new(&rotating, &[]);
    assert!(rotating.recognise(key).is_some());
    assert_eq!(rotating.other_digests(key), [before.digest(key)]);

    let new: SecretsKey = new.parse().unwrap();
    assert!(KeySecrets::new(&new, &[]).recognise(key).is_none());
    let check = KeyCheck::of(&old.parse().unwrap());
    let rotated = KeySecrets::new(&new, &check);
    assert!(rotated.recognise(key).is_some());
    // It makes no keys that only the old check recognises.
    let made = rotated.generate(Penstock).unwrap();
    assert!(KeySecrets::new(&new, &[]).recognise(made.text.as_str()).is_some());
}
