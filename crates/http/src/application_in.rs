//! An application as clients send it: to the route that creates one, and within a message that brings its own.

use std::{collections::BTreeMap, str::FromStr as _, sync::Arc};

use fanfare_control::{Application, ApplicationSettings, CommandError, Principal, Refusal};
use fanfare_core::{ApplicationId, Ordering, limits};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::{ApiError, Authenticated, FieldError, Fields, Gate, names::check_uid};

/// The body of a create or upsert.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationIn {
    pub name: Option<String>,
    pub uid: Option<String>,
    pub throttle_rate: Option<u32>,
    /// The former name of `throttleRate`.
    pub rate_limit: Option<u32>,
    /// Ours: messages per second that may be published for it. What goes out is `throttleRate`.
    pub publish_rate: Option<u32>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub ordering: Option<Ordering>,
}

impl ApplicationIn {
    /// The settings, with what was left out at its default; 422 naming what is wrong.
    pub fn into_settings(self) -> Result<ApplicationSettings, ApiError> {
        let settings = ApplicationSettings {
            name: self.name.unwrap_or_default(),
            uid: self.uid,
            throttle_rate: self.throttle_rate.or(self.rate_limit),
            publish_rate: self.publish_rate,
            metadata: self.metadata.unwrap_or_default(),
            ordering: self.ordering,
        };
        check_application(&settings)?;
        Ok(settings)
    }
}

/// The application of the path; where the body brings it along, and there is none yet, it is made.
pub async fn application_or_new(
    gate: &Gate,
    who: Authenticated,
    app_id: &str,
    wanted: ApplicationIn,
    found: Result<Arc<Application>, ApiError>,
) -> Result<Arc<Application>, ApiError> {
    let wrong = |kind, message: &str| {
        ApiError::invalid(vec![FieldError::body(["application", "uid"], message).of_kind(kind)])
    };
    match &wanted.uid {
        None => return Err(wrong("application_uid_missing", "is required and must be the id in the path")),
        Some(uid) if uid != app_id => {
            return Err(wrong("application_uid_mismatch", "must be the id in the path"));
        }
        Some(_) => {}
    }
    let (Principal::Organization(organization), Err(missing)) = (who.principal(), &found) else {
        return found;
    };
    if missing.status() != StatusCode::NOT_FOUND {
        return found;
    }
    let settings = wanted.into_settings()?;
    let control = gate.control();
    let command = control.new_application(organization, settings);
    match control.submit_from(who.origin(), command, None).await {
        // Somebody else created it meanwhile: just as well.
        Ok(_) | Err(CommandError::Refused(Refusal::UidTaken(_))) => who.application(gate, app_id).await,
        Err(error) => Err(ApiError::from(error)),
    }
}

/// 422 naming all that is wrong with an application's settings.
pub fn check_application(settings: &ApplicationSettings) -> Result<(), ApiError> {
    let mut fields = Fields::default();
    let name_characters = settings.name.chars().count();
    fields.check(
        (1..=limits::NAME_CHARACTERS).contains(&name_characters),
        "name",
        format_args!("is required: 1 to {} characters", limits::NAME_CHARACTERS),
    );
    if let Some(uid) = &settings.uid {
        check_uid(&mut fields, uid, ApplicationId::from_str);
    }
    fields.check(settings.throttle_rate != Some(0), "throttleRate", "must be at least 1 message per second");
    let right = settings.publish_rate.is_none_or(|rate| (1..=limits::RATE_MAX).contains(&rate));
    fields.check(
        right,
        "publishRate",
        format_args!("must be 1 to {} messages per second, or left out", limits::RATE_MAX),
    );
    check_metadata(&mut fields, &settings.metadata);
    fields.finish()
}

/// Notes metadata that is too large.
pub fn check_metadata(fields: &mut Fields, metadata: &BTreeMap<String, String>) {
    let size_bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    fields.check(
        size_bytes <= limits::METADATA_BYTES,
        "metadata",
        format_args!("keys and values must not exceed {} bytes together", limits::METADATA_BYTES),
    );
}
