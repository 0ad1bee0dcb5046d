use super::*;
use crate::signatures::Signatures;

fn secret(text: &str) -> SecretText {
    text.to_owned().into()
}

fn wrong(credentials: &Credentials) -> Vec<&'static str> {
    let wrong = credentials.check(&EgressConfig::default());
    wrong.into_iter().map(|(field, _)| field).collect()
}

#[test]
fn the_examples_of_the_specifications_come_out() {
    let value = basic("Aladdin", "open sesame").unwrap();
    assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(basic("test", "123£").unwrap(), "Basic dGVzdDoxMjPCow==");
    assert_eq!(bearer("mF_9.B5f-4.1JqM").unwrap(), "Bearer mF_9.B5f-4.1JqM");
    assert!(!format!("{value:?}").contains("QWxh"));
}

#[test]
fn wrong_fields_are_named() {
    let basic = |username: &str, password: &str| Credentials::Basic {
        username: secret(username),
        password: secret(password),
    };
    assert!(wrong(&basic("", "")).is_empty());
    assert_eq!(wrong(&basic("a:b", "\n")), ["username", "password"]);
    assert_eq!(wrong(&basic(&"x".repeat(1_025), "")), ["username"]);
    for token in ["", "a b", "ü", &"x".repeat(8_193)] {
        let bearer = Credentials::Bearer { token: secret(token) };
        assert_eq!(wrong(&bearer), ["token"], "{token}");
    }
    let client = ClientCredentials {
        token_url: "http://127.0.0.1/token".to_owned(),
        client_id: String::new(),
        client_secret: secret(""),
        scope: Some("\n".to_owned()),
        audience: Some(String::new()),
        client_auth: ClientAuth::Basic,
    };
    assert_eq!(
        wrong(&Credentials::ClientCredentials(client)),
        ["token_url", "client_id", "client_secret", "scope", "audience"]
    );
}

#[test]
fn credentials_open_for_their_endpoint_and_in_their_field_only() {
    let key: SecretsKey = BASE64.encode(&[7; 32]).parse().unwrap();
    let (endpoint, other) = (EndpointId::generate(), EndpointId::generate());
    let credentials = Credentials::Bearer {
        token: secret("canary"),
    };
    let sealed = credentials.seal(&key, endpoint);
    assert_eq!(Credentials::unseal(&sealed, &key, endpoint).unwrap(), credentials);
    assert!(Credentials::unseal(&sealed, &key, other).is_err());
    assert!(Signatures::unseal(&sealed, &key, endpoint).is_err());
    assert!(!format!("{credentials:?}").contains("canary"));
}
