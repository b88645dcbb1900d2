#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

fn tokens() -> Tokens {
    Tokens::new(&MainSecret::from_bytes([7; 32]))
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
    assert_eq!(tokens().verify(&token, NOW), Ok(Principal::Organization(organization)));
    let token = tokens().mint_application(organization, application, NOW);
    let principal = Principal::Application { organization, application };
    assert_eq!(tokens().verify(&token, NOW), Ok(principal));
    assert_eq!(principal.organization(), organization);
}

#[test]
fn the_claims_are_those_that_svix_makes() {
    let token = tokens().mint_organization(default_organization(), NOW);
    let claims: serde_json::Value = jsonwebtoken::dangerous::insecure_decode_claims(&token).unwrap();
    let expected = serde_json::json!({
        "iss": "svix-server", "sub": "org_23rb8YdGqMT0qIzpgGwdXfHirMu",
        "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 1_700_000_000 + 315_360_000,
    });
    assert_eq!(claims, expected);
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
