//! Tokens and API keys: made, checked, taken back.

use std::time::Duration;

use fanfare_core::{ApplicationId, OrganizationId, Timestamp};

use super::Control;
use crate::{
    access::{Access, Credential, Scope, TokenMark},
    api_keys,
    command::{Command, Session},
    tokens::{Grant, TokenError, session_fingerprint},
};

impl Control {
    /// Whom a token or an API key speaks for, as far as this process knows. [`TokenError::KeyUnknown`]: another process
    /// may have made it a moment ago.
    pub fn authenticate(&self, token: &str, now: Timestamp) -> Result<Access, TokenError> {
        let access = if api_keys::is_api_key(token) {
            self.key_access(token)?
        } else {
            self.tokens.verify(token, now)?
        };
        let refused_from = self.view().refused_from(&access);
        if refused_from <= now {
            return Err(match access.credential {
                Credential::Token(_) => TokenError::Revoked,
                Credential::Key(_) => TokenError::KeyExpired,
            });
        }
        Ok(Access { until: access.until.min(refused_from), ..access })
    }

    fn key_access(&self, key: &str) -> Result<Access, TokenError> {
        let given = api_keys::parse(key).ok_or(TokenError::KeyMalformed)?;
        let known = self.view().api_key(given.id).cloned().ok_or(TokenError::KeyUnknown)?;
        if !self.api_keys.is_right(&given, &known.digest) {
            return Err(TokenError::KeyWrong);
        }
        Ok(Access {
            principal: known.principal(),
            scope: known.scope,
            credential: Credential::Key(known.id),
            until: known.expires_at.unwrap_or(Timestamp::MAX),
        })
    }

    /// Rises with each change after which what [`Control::authenticate`] found good may be so no more. Costs no lock.
    pub fn credentials_revision(&self) -> u64 {
        self.state.credentials_revision()
    }

    /// A token that no order given until now to expire the application's tokens reaches, whatever the clocks.
    pub fn mint(&self, grant: Grant) -> String {
        let now = self.now();
        let session = grant.session.as_deref().map(session_fingerprint);
        let issued_until = grant
            .application
            .map_or(Timestamp::ZERO, |application| self.view().tokens_issued_until(application, session));
        let issued_at = now.max(issued_until + Duration::from_micros(1));
        self.tokens.mint_issued(grant, now, issued_at)
    }

    /// A command that revokes the very token.
    pub fn revocation(&self, access: &Access, token: &TokenMark) -> Command {
        Command::RevokeToken {
            organization: access.principal.organization(),
            application: access.principal.application(),
            token: token.fingerprint,
            expires_at: token.expires_at,
        }
    }

    /// A command that expires all of an application's tokens made until now, or those of some sessions, after a while or
    /// at once.
    pub fn expiry(&self, application: ApplicationId, sessions: &[String], after: Duration) -> Command {
        let now = self.now();
        Command::ExpireTokens {
            application,
            issued_until: now,
            from: (after > Duration::ZERO).then(|| now + after),
            sessions: sessions.iter().map(|session| Session(session_fingerprint(session))).collect(),
        }
    }

    /// A command that makes an API key, and the key itself, which nobody can tell again.
    pub fn new_api_key(
        &self,
        organization: OrganizationId,
        application: Option<ApplicationId>,
        name: String,
        scope: Scope,
        expires_at: Option<Timestamp>,
    ) -> (Command, String) {
        let id = self.new_id();
        let (key, digest) = self.api_keys.make(id, &*self.options.entropy);
        (Command::CreateApiKey { id, organization, application, name, scope, expires_at, digest }, key)
    }
}
