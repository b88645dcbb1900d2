//! Who comes with a token or an API key, and what that opens.

use std::net::IpAddr;

use fanfare_core::{ApiKeyId, ApplicationId, Fingerprint, OrganizationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hexadecimal;

/// Whom a token or key speaks for.
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
    pub(crate) fn new(organization: OrganizationId, application: Option<ApplicationId>) -> Self {
        match application {
            Some(application) => Self::Application { organization, application },
            None => Self::Organization(organization),
        }
    }

    pub fn organization(&self) -> OrganizationId {
        match *self {
            Self::Organization(organization) | Self::Application { organization, .. } => organization,
        }
    }

    /// The one application that it is limited to.
    pub fn application(&self) -> Option<ApplicationId> {
        match *self {
            Self::Organization(_) => None,
            Self::Application { application, .. } => Some(application),
        }
    }
}

/// What may be done in a principal's name. The lesser comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    Read,
    Full,
}

/// A token or key that was found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub principal: Principal,
    pub scope: Scope,
    pub credential: Credential,
    /// It is refused from then on.
    pub until: Timestamp,
}

/// What was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    Token(TokenMark),
    Key(ApiKeyId),
}

/// What is kept of a token after its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenMark {
    pub id: TokenId,
    /// Of header and payload, which the signature covers; of the signature's text there are several that say the same.
    pub fingerprint: Fingerprint,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Digest of the session that it was made for.
    pub session: Option<Fingerprint>,
}

/// By what people know a token: its `jti`, or its fingerprint where that is not one of ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(#[serde(with = "hexadecimal")] pub Fingerprint);

impl std::fmt::Display for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0.0))
    }
}

impl std::fmt::Debug for TokenId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Who gave a command, and from where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Whose things it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<OrganizationId>,
    pub by: Actor,
    /// The other end of the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// By policy.
    Fanfare,
    OrganizationToken {
        id: TokenId,
    },
    ApplicationToken {
        id: TokenId,
        application: ApplicationId,
    },
    ApiKey {
        id: ApiKeyId,
    },
}

impl Access {
    /// What the records of its commands say of where they come from.
    pub fn origin(&self, from: Option<IpAddr>) -> Origin {
        let by = match (&self.credential, self.principal) {
            (Credential::Key(id), _) => Actor::ApiKey { id: *id },
            (Credential::Token(mark), Principal::Organization(_)) => Actor::OrganizationToken { id: mark.id },
            (Credential::Token(mark), Principal::Application { application, .. }) => {
                Actor::ApplicationToken { id: mark.id, application }
            }
        };
        Origin { organization: Some(self.principal.organization()), by, from }
    }
}
