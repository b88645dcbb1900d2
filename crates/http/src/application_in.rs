//! An application as clients send it: to the route that creates one, and within a message that brings its own.

use std::collections::BTreeMap;

use fanfare_control::ApplicationSettings;
use fanfare_core::{Ordering, limits};
use serde::{Deserialize, Serialize};

use crate::{ApiError, Fields, names::check_uid};

/// The body of a create or upsert.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationIn {
    pub name: Option<String>,
    pub uid: Option<String>,
    pub throttle_rate: Option<u32>,
    /// The former name of `throttleRate`.
    pub rate_limit: Option<u32>,
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
            metadata: self.metadata.unwrap_or_default(),
            ordering: self.ordering,
        };
        check_application(&settings)?;
        Ok(settings)
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
        check_uid(&mut fields, uid, "app_");
    }
    fields.check(settings.throttle_rate != Some(0), "throttleRate", "must be at least 1 message per second");
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
