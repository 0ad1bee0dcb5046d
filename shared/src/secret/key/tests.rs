use super::*;

fn text() -> String {
    BASE64.encode(&random_bytes::<32>())
}

#[test]
fn what_is_under_any_of_the_keys_opens_and_what_is_sealed_is_under_the_first() {
    let (old, new) = (text(), text());
    let of_list = |keys: &[&str]| SecretsKey::of_list(&keys.join(",")).unwrap();
    let alone: SecretsKey = old.parse().unwrap();
    let (rotating, rotated) = (of_list(&[&new, &old]), of_list(&[&new]));
    let before = alone.seal(b"secret", b"context");
    assert_eq!(mark_of(&before), [UNNAMED]);
    assert_eq!(*rotating.unseal(&before, b"context").unwrap(), b"secret");
    let resealed = rotating.reseal(&before, b"context").unwrap();
    assert_eq!(mark_of(&resealed), rotated.mark());
    assert_eq!(rotated.reseal(&resealed, b"context").unwrap(), resealed);
    assert!(matches!(
        rotated.unseal(&before, b"context"),
        Err(SecretError::Sealed)
    ));

    let after = rotating.seal(b"secret", b"context");
    assert_eq!(*rotated.unseal(&after, b"context").unwrap(), b"secret");
    assert!(rotated.unseal(&after, b"other").is_err());
    let id = rotated.ids()[0];
    let refused = of_list(&[&old]).unseal(&after, b"context");
    assert!(matches!(refused, Err(SecretError::UnknownKey(unknown)) if unknown == id));
    assert!(refused.unwrap_err().to_string().contains(&id.to_string()));
    for cut in [0, 1, 5, 20, after.len() - 1] {
        assert!(rotated.unseal(&after[..cut], b"context").is_err(), "{cut}");
        assert!(after.starts_with(mark_of(&after[..cut])), "{cut}");
    }
}

#[test]
fn a_list_with_what_is_no_key_or_with_a_key_twice_is_refused() {
    let (one, other) = (text(), text());
    let error = |keys: &str| SecretsKey::of_list(keys).unwrap_err();
    assert_eq!(error(""), InvalidSecretsKey::MalformedAt(1));
    assert_eq!(error(&format!("{one},")), InvalidSecretsKey::MalformedAt(2));
    assert_eq!(
        error(&format!("{one},{other},AAAA")),
        InvalidSecretsKey::MalformedAt(3)
    );
    assert_eq!(
        error(&format!("{one},{other}, {one}")),
        InvalidSecretsKey::Repeated(3)
    );
    assert_eq!(format!("{:?}", SecretsKey::of_list(&one).unwrap()), "SecretsKey");
}
