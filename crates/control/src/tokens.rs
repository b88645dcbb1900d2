//! Bearer tokens: JSON Web Tokens as Svix's, signed under a key derived from the main secret.
//!
//! ```text
//! claims := iss · sub (org_… | app_…) · org? (of an application) · iat · nbf · exp        as Svix has them
//!         · jti                32 hexadecimal digits at random: no two tokens are one
//!         · iat_micros         of the second of iat; without it a token made in the second in which all were
//!                              expired could not be told from those
//!         · scope?             "read": it changes nothing; none or "full": it may do everything
//!         · session_id? · feature_flags?
//! ```
//!
//! Tokens without the later claims stay good; one that names a scope nobody knows is refused.

use std::{sync::Arc, time::Duration};

use fanfare_core::{ApplicationId, Entropy, Fingerprint, OrganizationId, Timestamp, limits};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    access::{Access, Credential, Principal, Scope, TokenId, TokenMark},
    secrets::MainSecret,
};

/// What Svix puts there, and its clients may look for. Not checked: tokens of other issuers that have the key
/// are good.
const ISSUER: &str = "svix-server";

/// Whose token it is when nothing is said.
pub fn default_organization() -> OrganizationId {
    "org_23rb8YdGqMT0qIzpgGwdXfHirMu".parse().expect("the id is well-formed")
}

/// Why a token or key is not good. Who presents it needs to know no more than that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is not signed by this installation")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token names neither an organization nor an application of one")]
    Subject,
    #[error("the token has a scope that is neither `full` nor `read`")]
    Scope,
    #[error("the token was revoked")]
    Revoked,
    #[error("the API key is mistyped or cut off")]
    KeyMalformed,
    /// As far as this process knows.
    #[error("the API key does not exist, or was deleted")]
    KeyUnknown,
    /// Its id is that of a key, its secret is not. Says no more than the one above.
    #[error("the API key does not exist, or was deleted")]
    KeyWrong,
    #[error("the API key has expired")]
    KeyExpired,
}

/// What a new token is to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub organization: OrganizationId,
    /// The only one that it opens.
    pub application: Option<ApplicationId>,
    pub scope: Scope,
    pub lifetime: Duration,
    /// By which it can be expired together with others.
    pub session: Option<String>,
    pub feature_flags: Vec<String>,
}

impl Grant {
    /// Everything of an organization.
    pub fn organization(organization: OrganizationId) -> Self {
        Self {
            organization,
            application: None,
            scope: Scope::Full,
            lifetime: limits::ORGANIZATION_TOKEN,
            session: None,
            feature_flags: Vec::new(),
        }
    }

    /// Everything of one application.
    pub fn application(organization: OrganizationId, application: ApplicationId) -> Self {
        Self {
            application: Some(application),
            lifetime: limits::APPLICATION_TOKEN,
            ..Self::organization(organization)
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    #[serde(default)]
    iss: Option<String>,
    sub: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    org: Option<String>,
    #[serde(default)]
    iat: Option<i64>,
    #[serde(default)]
    nbf: Option<i64>,
    exp: i64,
    // Others may mean something else by these, or give them another type.
    #[serde(default)]
    jti: Value,
    #[serde(default)]
    iat_micros: Value,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    scope: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    #[serde(skip_deserializing, skip_serializing_if = "Vec::is_empty")]
    feature_flags: Vec<String>,
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    entropy: Arc<dyn Entropy>,
}

impl Tokens {
    pub fn new(main_secret: &MainSecret, entropy: Arc<dyn Entropy>) -> Self {
        let key = main_secret.token_key();
        // Time is checked here, against the clock that everything else uses.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self {
            encoding: EncodingKey::from_secret(&key),
            decoding: DecodingKey::from_secret(&key),
            validation,
            entropy,
        }
    }

    pub fn mint_organization(&self, organization: OrganizationId, now: Timestamp) -> String {
        self.mint(Grant::organization(organization), now)
    }

    pub fn mint_application(
        &self,
        organization: OrganizationId,
        application: ApplicationId,
        now: Timestamp,
    ) -> String {
        self.mint(Grant::application(organization, application), now)
    }

    pub fn mint(&self, grant: Grant, now: Timestamp) -> String {
        self.mint_issued(grant, now, now)
    }

    /// `issued_at` is what orders to expire all tokens look at.
    pub(crate) fn mint_issued(&self, grant: Grant, now: Timestamp, issued_at: Timestamp) -> String {
        let claims = Claims {
            iss: Some(ISSUER.into()),
            sub: grant.application.map_or_else(|| grant.organization.to_string(), |id| id.to_string()),
            org: grant.application.map(|_| grant.organization.to_string()),
            iat: Some(issued_at.as_secs()),
            nbf: Some(now.as_secs()),
            exp: (now + grant.lifetime).as_secs(),
            jti: TokenId(Fingerprint(self.entropy.bytes())).to_string().into(),
            iat_micros: issued_at.as_micros().rem_euclid(1_000_000).into(),
            scope: if grant.scope == Scope::Read { "read".into() } else { Value::Null },
            session_id: grant.session,
            feature_flags: grant.feature_flags,
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("the claims are texts and numbers, and the key is for HS256")
    }

    /// Checks the signature and the time. Whether it was revoked is known to the view, and whether the application
    /// exists is the caller's to ask.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Access, TokenError> {
        let claims = self.claims(token)?;
        let mark = mark(token, &claims);
        if mark.expires_at <= now {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| Timestamp::from_secs(nbf) > now + limits::TOKEN_LEEWAY) {
            return Err(TokenError::NotYet);
        }
        Ok(Access {
            principal: principal(&claims).ok_or(TokenError::Subject)?,
            scope: scope(&claims.scope)?,
            credential: Credential::Token(mark),
            until: mark.expires_at,
        })
    }

    /// The session that a token names.
    pub fn session(&self, token: &str) -> Option<String> {
        self.claims(token).ok()?.session_id
    }

    fn claims(&self, token: &str) -> Result<Claims, TokenError> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        decoded.map(|decoded| decoded.claims).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
            _ => TokenError::Malformed,
        })
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

/// Digest of a session's name, which is all that is kept of it.
pub fn session_fingerprint(session: &str) -> Fingerprint {
    Fingerprint::of(&[b"session", session.as_bytes()])
}

fn mark(token: &str, claims: &Claims) -> TokenMark {
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let fingerprint = Fingerprint::of(&[b"token", signed.as_bytes()]);
    let micros = claims.iat_micros.as_i64().filter(|micros| (0..1_000_000).contains(micros)).unwrap_or(0);
    // A token that does not say when it was made is as old as can be.
    let issued_at = claims.iat.map_or(Timestamp::ZERO, |iat| {
        Timestamp::from_micros(Timestamp::from_secs(iat).as_micros().saturating_add(micros))
    });
    let session = claims.session_id.as_deref().map(session_fingerprint);
    let mut expires_at = Timestamp::from_secs(claims.exp);
    if session.is_some() {
        // Expired sessions are forgotten some time; by then their tokens must be gone.
        expires_at = expires_at.min(issued_at + limits::APPLICATION_TOKEN);
    }
    let id = claims.jti.as_str().and_then(token_id).unwrap_or(TokenId(fingerprint));
    TokenMark { id, fingerprint, issued_at, expires_at, session }
}

fn token_id(jti: &str) -> Option<TokenId> {
    let is_ours = jti.len() == 32 && jti.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = u128::from_str_radix(jti, 16).ok().filter(|_| is_ours)?;
    Some(TokenId(Fingerprint(number.to_be_bytes())))
}

fn scope(claim: &Value) -> Result<Scope, TokenError> {
    match claim {
        Value::Null => Ok(Scope::Full),
        Value::String(scope) if scope == "full" => Ok(Scope::Full),
        Value::String(scope) if scope == "read" => Ok(Scope::Read),
        _ => Err(TokenError::Scope),
    }
}

fn principal(claims: &Claims) -> Option<Principal> {
    let Some(organization) = &claims.org else {
        return claims.sub.parse().ok().map(Principal::Organization);
    };
    let organization = organization.parse().ok()?;
    let application = claims.sub.parse().ok()?;
    Some(Principal::Application { organization, application })
}

#[cfg(test)]
mod tests;
