#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use fanfare_core::SystemEntropy;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn tokens() -> Tokens {
    Tokens::new(&MainSecret::from_bytes([7; 32]), Arc::new(SystemEntropy))
}

fn mark_of(token: &str) -> TokenMark {
    match tokens().verify(token, NOW).unwrap().credential {
        Credential::Token(mark) => mark,
        Credential::Key(id) => panic!("{id} is no token"),
    }
}

fn claims_of(token: &str) -> serde_json::Value {
    jsonwebtoken::dangerous::insecure_decode_claims(token).unwrap()
}

/// Signs what the type does not let one say.
fn forge(header: &Header, claims: &serde_json::Value, key: &[u8]) -> String {
    jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(key)).unwrap()
}

#[test]
fn a_token_speaks_for_whom_it_was_made() {
    let organization = default_organization();
    let application = ApplicationId::from_bytes([5; 20]);
    let token = tokens().mint_organization(organization, NOW);
    let access = tokens().verify(&token, NOW).unwrap();
    assert_eq!((access.principal, access.scope), (Principal::Organization(organization), Scope::Full));
    let token = tokens().mint_application(organization, application, NOW);
    let principal = Principal::Application { organization, application };
    assert_eq!(tokens().verify(&token, NOW).unwrap().principal, principal);
    assert_eq!(principal.organization(), organization);
    let reading = Grant { scope: Scope::Read, ..Grant::application(organization, application) };
    let access = tokens().verify(&tokens().mint(reading, NOW), NOW).unwrap();
    assert_eq!((access.principal, access.scope), (principal, Scope::Read));
}

#[test]
fn the_claims_are_those_that_svix_makes_and_a_few_of_ours() {
    let organization = default_organization();
    let mut claims = claims_of(&tokens().mint_organization(organization, NOW + Duration::from_micros(7)));
    let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!(jti.as_str().unwrap().len(), 32);
    let expected = serde_json::json!({
        "iss": "svix-server", "sub": "org_23rb8YdGqMT0qIzpgGwdXfHirMu",
        "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_000 + 315_360_000, "iat_micros": 7,
    });
    assert_eq!(claims, expected);
    let portal = Grant {
        scope: Scope::Read,
        session: Some("s-1".into()),
        feature_flags: vec!["beta".into()],
        lifetime: Duration::from_hours(1),
        ..Grant::application(organization, ApplicationId::from_bytes([5; 20]))
    };
    let token = tokens().mint(portal, NOW);
    let claims = claims_of(&token);
    assert_eq!((&claims["scope"], &claims["session_id"]), (&"read".into(), &"s-1".into()));
    assert_eq!((&claims["feature_flags"][0], &claims["exp"]), (&"beta".into(), &1_700_003_600_i64.into()));
    assert_eq!(mark_of(&token).session, Some(session_fingerprint("s-1")));
    assert_eq!(tokens().session(&token).as_deref(), Some("s-1"));
}

#[test]
fn no_two_tokens_are_one() {
    let [one, other] = [(); 2].map(|()| tokens().mint_organization(default_organization(), NOW));
    assert_ne!(mark_of(&one).fingerprint, mark_of(&other).fingerprint);
    assert_eq!(claims_of(&one)["jti"], mark_of(&one).id.to_string());
}

/// The signature's text is not part of it: base64 can say the same bytes in several ways.
#[test]
fn a_fingerprint_is_of_what_is_signed() {
    let token = tokens().mint_organization(default_organization(), NOW);
    let claims = Claims { scope: Value::Null, ..tokens().claims(&token).unwrap() };
    let unsigned = token.rsplit_once('.').unwrap().0;
    assert_eq!(mark(&token, &claims).fingerprint, mark(&format!("{unsigned}.other"), &claims).fingerprint);
}

/// Tokens that were made before there were such claims, or by others.
#[test]
fn claims_that_are_not_ours_do_no_harm() {
    let key = MainSecret::from_bytes([7; 32]).token_key();
    let sign = |more: serde_json::Value| {
        let mut claims = serde_json::json!({
            "iss": "me", "sub": default_organization(), "iat": 1_700_000_000, "exp": 4_000_000_000_i64,
        });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        forge(&Header::new(Algorithm::HS256), &claims, &key)
    };
    for more in [
        serde_json::json!({}),
        serde_json::json!({"jti": "order-17", "iat_micros": "seven"}),
        serde_json::json!({"jti": 17, "iat_micros": -1, "feature_flags": ["a"], "scope": "full"}),
    ] {
        let token = sign(more.clone());
        let mark = mark_of(&token);
        assert_eq!((mark.id.0, mark.issued_at), (mark.fingerprint, NOW), "{more}");
        assert_eq!(tokens().verify(&token, NOW).unwrap().scope, Scope::Full, "{more}");
    }
    // Whoever meant less by a scope than we know of must not get more.
    for scope in [serde_json::json!("openid"), serde_json::json!(["read"]), serde_json::json!("Read")] {
        let token = sign(serde_json::json!({"scope": scope}));
        assert_eq!(tokens().verify(&token, NOW), Err(TokenError::Scope), "{scope}");
    }
}

/// So that an expired session may be forgotten then.
#[test]
fn a_token_of_a_session_lives_no_longer_than_one_of_an_application() {
    let long = Grant {
        session: Some("s".into()),
        lifetime: limits::ORGANIZATION_TOKEN,
        ..Grant::application(default_organization(), ApplicationId::from_bytes([5; 20]))
    };
    let token = tokens().mint(long, NOW);
    let end = NOW + limits::APPLICATION_TOKEN;
    assert_eq!(tokens().verify(&token, NOW).unwrap().until, end);
    assert_eq!(tokens().verify(&token, end), Err(TokenError::Expired));
}

#[test]
fn time_is_the_callers() {
    let token = tokens().mint_application(default_organization(), ApplicationId::from_bytes([5; 20]), NOW);
    let last = NOW + Duration::from_secs(28 * 24 * 3_600 - 1);
    assert!(tokens().verify(&token, last).is_ok());
    assert_eq!(tokens().verify(&token, last + Duration::from_secs(1)), Err(TokenError::Expired));
    assert!(tokens().verify(&token, NOW - Duration::from_mins(1)).is_ok());
    assert_eq!(tokens().verify(&token, NOW - Duration::from_secs(61)), Err(TokenError::NotYet));
}

#[test]
fn what_was_not_signed_here_is_refused() {
    let key = MainSecret::from_bytes([7; 32]).token_key();
    let hs256 = Header::new(Algorithm::HS256);
    let claims = serde_json::json!({ "sub": default_organization(), "exp": 4_000_000_000_i64 });
    // A foreign issuer and an audience do not matter; the key does.
    let foreign = serde_json::json!({ "iss": "me", "aud": "you", "sub": default_organization(), "exp": 4_000_000_000_i64 });
    assert!(tokens().verify(&forge(&hs256, &claims, &key), NOW).is_ok());
    assert!(tokens().verify(&forge(&hs256, &foreign, &key), NOW).is_ok());
    assert_eq!(tokens().verify(&forge(&hs256, &claims, &[8; 32]), NOW), Err(TokenError::Signature));
    let hs512 = forge(&Header::new(Algorithm::HS512), &claims, &key);
    assert_eq!(tokens().verify(&hs512, NOW), Err(TokenError::Signature));

    let unsigned =
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvcmdfMjNyYjhZZEdxTVQwcUl6cGdHd2RYZkhpck11IiwiZXhwIjo0MDAwMDAwMDAwfQ.";
    for malformed in ["", "a", "a.b.c", unsigned] {
        assert_eq!(tokens().verify(malformed, NOW), Err(TokenError::Malformed), "{malformed}");
    }
    for subject in [
        serde_json::json!({ "sub": "app_23rb8YdGqMT0qIzpgGwdXfHirMu", "exp": 4_000_000_000_i64 }),
        serde_json::json!({ "sub": "root", "exp": 4_000_000_000_i64 }),
        serde_json::json!({ "sub": default_organization(), "org": default_organization(), "exp": 4_000_000_000_i64 }),
    ] {
        assert_eq!(tokens().verify(&forge(&hs256, &subject, &key), NOW), Err(TokenError::Subject));
    }
    let endless = serde_json::json!({ "sub": default_organization() });
    assert_eq!(tokens().verify(&forge(&hs256, &endless, &key), NOW), Err(TokenError::Malformed));
}
