//! Tokens that are taken back, and API keys.

use std::{collections::BTreeMap, sync::Arc};

use fanfare_core::{ApiKeyId, ApplicationId, Fingerprint, OrganizationId, Timestamp, limits};

use super::{Effect, Refusal, application};
use crate::{
    command::{Command, Session},
    model::ApiKey,
    revocations::Expiry,
    view::View,
};

/// Once more is as good as once.
pub(super) fn revoke_token(
    view: &View,
    at: Timestamp,
    token: Fingerprint,
    expires_at: Timestamp,
) -> Result<Effect, Refusal> {
    view.revocations().check_revoke(at)?;
    Ok(Effect::TokenRevoked { token, expires_at, at })
}

pub(super) fn expire_tokens(
    view: &View,
    at: Timestamp,
    id: ApplicationId,
    (issued_until, from): (Timestamp, Option<Timestamp>),
    sessions: &[Session],
) -> Result<Effect, Refusal> {
    application(view, id)?;
    let sessions: Vec<Fingerprint> = sessions.iter().map(|session| session.0).collect();
    let from = from.unwrap_or(Timestamp::ZERO);
    view.revocations().check_expire(id, &sessions, Expiry { issued_until, from }, at)?;
    Ok(Effect::TokensExpired { application: id, sessions, issued_until, from, at })
}

pub(super) fn create_api_key(view: &View, at: Timestamp, command: &Command) -> Result<Effect, Refusal> {
    let Command::CreateApiKey { id, organization, application, name, scope, expires_at, digest } = command
    else {
        unreachable!("it was just looked at")
    };
    if view.api_key(*id).is_some() {
        return Err(Refusal::IdTaken(id.to_string()));
    }
    if let Some(id) = *application {
        let owner = view.application_ref(id).map(|application| application.organization);
        if owner != Some(*organization) {
            return Err(Refusal::NoApplication(id));
        }
    }
    if view.api_keys(*organization).count() >= limits::API_KEYS {
        return Err(Refusal::TooManyApiKeys);
    }
    Ok(Effect::ApiKey(Arc::new(ApiKey {
        id: *id,
        organization: *organization,
        application: *application,
        name: name.clone(),
        scope: *scope,
        digest: digest.clone(),
        created_at: at,
        expires_at: *expires_at,
        used_at: None,
    })))
}

pub(super) fn delete_api_key(
    view: &View,
    organization: OrganizationId,
    id: ApiKeyId,
) -> Result<Effect, Refusal> {
    match view.api_key(id) {
        Some(key) if key.organization == organization => Ok(Effect::ApiKeyDeleted(id)),
        _ => Err(Refusal::NoApiKey(id)),
    }
}

/// Of two processes the one that saw it later knows better.
pub(super) fn note_api_key_use(view: &View, uses: &BTreeMap<ApiKeyId, Timestamp>) -> Effect {
    let used = uses.iter().filter_map(|(id, at)| {
        let key = view.api_key(*id)?;
        let used_at = key.used_at.map_or(*at, |before| before.max(*at));
        Some(Arc::new(ApiKey { used_at: Some(used_at), ..key.as_ref().clone() }))
    });
    Effect::ApiKeysUsed(used.collect())
}
