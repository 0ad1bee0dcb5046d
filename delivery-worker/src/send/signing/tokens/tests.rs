use crate::send::signing::tokens::*;

fn life_of(body: &str) -> Result<Duration, String> {
    let now = Instant::now();
    let token = token(body.as_bytes(), now).map_err(|error| error.to_string())?;
    Ok(token.fresh_until - now)
}

#[test]
fn a_token_is_kept_until_nine_tenths_of_its_life_are_over() {
    for (expires_in, seconds) in [
        ("100", 90),
        ("\"100\"", 90),
        ("100.0", 90),
        ("0", 0),
        ("-5", 0),
        ("null", 270),
        ("1e300", 24 * 30 * 3_600 * 9 / 10),
    ] {
        let body = format!(r#"{{"access_token":"t","token_type":"bearer","expires_in":{expires_in}}}"#);
        assert_eq!(life_of(&body), Ok(Duration::from_secs(seconds)), "{expires_in}");
    }
    assert_eq!(life_of(r#"{"access_token":"t"}"#), Ok(Duration::from_secs(270)));
}

#[test]
fn an_answer_without_a_usable_token_is_told_and_not_repeated() {
    for body in [
        "canary",
        "[]",
        r#"{"access_token":7}"#,
        r#"{"access_token":"canary\n"}"#,
        r#"{"access_token":"canary","token_type":"mac"}"#,
        r#"{"access_token":"canary","expires_in":"soon"}"#,
        r#"{"access_token":""}"#,
    ] {
        let error = life_of(body).unwrap_err();
        assert!(
            error.starts_with("the token server's answer ") && !error.contains("canary"),
            "{error}"
        );
    }
    let status =
        |body: &str| TokenFailed::Status(StatusCode::UNAUTHORIZED, error(body.as_bytes())).to_string();
    assert_eq!(
        status(r#"{"error":"invalid_client"}"#),
        "the token server answered 401 Unauthorized: invalid_client"
    );
    assert_eq!(
        status(r#"{"error":"canary"}"#),
        "the token server answered 401 Unauthorized"
    );
}

#[test]
fn ids_and_secrets_are_coded_for_where_they_stand() {
    let client = |client_auth| ClientCredentials {
        token_url: "https://example.com/token".to_owned(),
        client_id: "a:b".to_owned(),
        client_secret: "c d&".to_owned().into(),
        scope: Some("x y".to_owned()),
        audience: None,
        client_auth,
    };
    let basic = Tokens::new(&client(ClientAuth::Basic)).unwrap();
    let expected = format!("Basic {}", BASE64.encode(b"a%3Ab:c+d%26"));
    assert_eq!(basic.headers[AUTHORIZATION], expected);
    assert_eq!(&basic.body[..], b"grant_type=client_credentials&scope=x+y");
    let body = Tokens::new(&client(ClientAuth::Body)).unwrap();
    assert!(!body.headers.contains_key(AUTHORIZATION));
    assert_eq!(
        &body.body[..],
        b"grant_type=client_credentials&scope=x+y&client_id=a%3Ab&client_secret=c+d%26"
    );
}
