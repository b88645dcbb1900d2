//! Bearer tokens: JSON Web Tokens as Svix's, signed under a key derived from the main secret.

use fanfare_core::{ApplicationId, OrganizationId, Timestamp, limits};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

use crate::secrets::MainSecret;

/// What Svix puts there, and its clients may look for. Not checked: tokens of other issuers that have the key
/// are good.
const ISSUER: &str = "svix-server";

/// Whose token it is when nothing is said.
pub fn default_organization() -> OrganizationId {
    "org_23rb8YdGqMT0qIzpgGwdXfHirMu".parse().expect("the id is well-formed")
}

/// Whom a token speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    Organization(OrganizationId),
    /// May only see and change what belongs to the application.
    Application {
        organization: OrganizationId,
        application: ApplicationId,
    },
}

impl Principal {
    pub fn organization(&self) -> OrganizationId {
        match *self {
            Self::Organization(organization) | Self::Application { organization, .. } => organization,
        }
    }
}

/// Why a token is not good. Who presents it needs to know no more than that.
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
}

/// Makes and checks tokens.
#[derive(Clone)]
pub struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Tokens {
    pub fn new(main_secret: &MainSecret) -> Self {
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
        }
    }

    pub fn mint_organization(&self, organization: OrganizationId, now: Timestamp) -> String {
        self.sign(organization.to_string(), None, now, now + limits::ORGANIZATION_TOKEN)
    }

    pub fn mint_application(
        &self,
        organization: OrganizationId,
        application: ApplicationId,
        now: Timestamp,
    ) -> String {
        let expires_at = now + limits::APPLICATION_TOKEN;
        self.sign(application.to_string(), Some(organization.to_string()), now, expires_at)
    }

    fn sign(&self, sub: String, org: Option<String>, now: Timestamp, expires_at: Timestamp) -> String {
        let (now, exp) = (now.as_secs(), expires_at.as_secs());
        let claims = Claims { iss: Some(ISSUER.into()), sub, org, iat: Some(now), nbf: Some(now), exp };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .expect("the claims are texts and numbers, and the key is for HS256")
    }

    /// Checks the signature and the time; whether the application exists is the caller's to ask.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation);
        let claims = decoded.map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
            _ => TokenError::Malformed,
        })?;
        let claims = claims.claims;
        if Timestamp::from_secs(claims.exp) <= now {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|nbf| Timestamp::from_secs(nbf) > now + limits::TOKEN_LEEWAY) {
            return Err(TokenError::NotYet);
        }
        principal(&claims).ok_or(TokenError::Subject)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
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
