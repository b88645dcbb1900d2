//! An endpoint as clients send and see it.

use std::{collections::BTreeMap, str::FromStr as _};

use fanfare_control::{Endpoint, EndpointSettings, Park};
use fanfare_core::{EndpointId, Ordering, RetrySchedule, limits, signature::SigningKey};
use fanfare_http::{ApiError, FieldError, Fields, NAME_FORM, check_metadata, check_uid, is_name};
use serde::{Deserialize, Serialize};

use crate::{
    State, address,
    application::shown,
    endpoint_headers::check_headers,
    endpoint_secret::{SecretKind, check_kind, parse_secret},
};

/// (former name, name)
pub(crate) const ALIASES: [(&str, &str); 2] = [("filterTypes", "eventTypes"), ("rateLimit", "throttleRate")];

/// The body of a create, an upsert, and, after its changes, of a PATCH.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointForm {
    pub(crate) url: Option<String>,
    pub(crate) uid: Option<String>,
    description: Option<String>,
    version: Option<u16>,
    disabled: Option<bool>,
    event_types: Option<Vec<String>>,
    filter_types: Option<Vec<String>>,
    channels: Option<Vec<String>>,
    throttle_rate: Option<u32>,
    rate_limit: Option<u32>,
    metadata: Option<BTreeMap<String, String>>,
    // Ours.
    ordering: Option<Ordering>,
    /// Seconds before the second, third, … attempt.
    retry_schedule: Option<Vec<u32>>,
    park_after_secs: Option<u32>,
    block: Option<bool>,
    max_in_flight: Option<u32>,
    timeout_secs: Option<u32>,
    // Not shown again: each has a route of its own.
    #[serde(skip_serializing)]
    secret: Option<String>,
    /// Of a secret that is made here.
    #[serde(skip_serializing)]
    secret_type: Option<SecretKind>,
    #[serde(skip_serializing)]
    headers: Option<BTreeMap<String, String>>,
}

/// An endpoint as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointOut {
    id: EndpointId,
    #[serde(flatten)]
    form: EndpointForm,
    /// Why Fanfare itself disabled it.
    disabled_reason: Option<String>,
    created_at: String,
    updated_at: String,
}

/// A form that was found right.
pub(crate) struct Checked {
    pub(crate) settings: EndpointSettings,
    pub(crate) secret: Option<SigningKey>,
    pub(crate) secret_kind: Option<SecretKind>,
}

impl EndpointForm {
    /// What a client would have to send to get this endpoint's settings.
    pub(crate) fn of(settings: &EndpointSettings) -> Self {
        let settings = settings.clone();
        Self {
            url: Some(settings.url),
            uid: settings.uid,
            description: Some(settings.description),
            version: Some(settings.version),
            disabled: Some(settings.disabled),
            event_types: settings.event_types,
            filter_types: None,
            channels: settings.channels,
            throttle_rate: settings.throttle_rate,
            rate_limit: None,
            metadata: Some(settings.metadata),
            ordering: settings.ordering,
            retry_schedule: settings.retry_schedule.map(|schedule| schedule.delays_secs().to_vec()),
            park_after_secs: match settings.park {
                Park::AfterSecs(secs) => Some(secs),
                Park::Default | Park::Block => None,
            },
            block: Some(settings.park == Park::Block),
            max_in_flight: settings.max_in_flight,
            timeout_secs: settings.timeout_secs,
            secret: None,
            secret_type: None,
            headers: None,
        }
    }

    /// The settings; 422 naming all that is wrong. Headers that are not given stay as in `before`, and so may a
    /// URL that would not be allowed any more.
    pub(crate) fn check(self, state: &State, before: Option<&EndpointSettings>) -> Result<Checked, ApiError> {
        let mut fields = Fields::default();
        let url = self.url.unwrap_or_default();
        if before.is_none_or(|before| before.url != url) {
            check_url(&mut fields, state, &url);
        }
        if let Some(uid) = &self.uid {
            check_uid(&mut fields, uid, EndpointId::from_str);
        }
        let description = self.description.unwrap_or_default();
        fields.check(
            description.len() <= limits::METADATA_BYTES,
            "description",
            format_args!("must be at most {} bytes", limits::METADATA_BYTES),
        );
        let version = self.version.unwrap_or(1);
        fields.check(version > 0, "version", "must be at least 1");
        let event_types = self.event_types.or(self.filter_types);
        check_names(
            &mut fields,
            "eventTypes",
            event_types.as_deref(),
            limits::EVENT_TYPES_PER_ENDPOINT,
            limits::EVENT_TYPE_CHARACTERS,
        );
        check_names(
            &mut fields,
            "channels",
            self.channels.as_deref(),
            limits::CHANNELS_PER_ENDPOINT,
            limits::CHANNEL_CHARACTERS,
        );
        let throttle_rate = self.throttle_rate.or(self.rate_limit);
        fields.check(throttle_rate != Some(0), "throttleRate", "must be at least 1 message per second");
        let metadata = self.metadata.unwrap_or_default();
        check_metadata(&mut fields, &metadata);
        let park = check_park(&mut fields, self.park_after_secs, self.block);
        check_range(&mut fields, "maxInFlight", self.max_in_flight, limits::MAX_IN_FLIGHT_MAX);
        check_range(&mut fields, "timeoutSecs", self.timeout_secs, limits::DELIVERY_TIMEOUT_SECS_MAX);
        let retry_schedule = check_schedule(&mut fields, self.retry_schedule);
        let headers = match self.headers {
            Some(headers) => check_headers(&mut fields, headers),
            None => before.map(|before| before.headers.clone()).unwrap_or_default(),
        };
        let secret = self.secret.and_then(|secret| parse_secret(&mut fields, "secret", &secret));
        check_kind(&mut fields, "secretType", self.secret_type, secret.as_ref());
        fields.finish()?;
        let settings = EndpointSettings {
            url,
            uid: self.uid,
            description,
            version,
            disabled: self.disabled.unwrap_or(false),
            event_types: event_types.map(distinct),
            channels: self.channels.map(distinct),
            throttle_rate,
            metadata,
            headers,
            ordering: self.ordering,
            retry_schedule,
            park,
            max_in_flight: self.max_in_flight,
            timeout_secs: self.timeout_secs,
        };
        Ok(Checked { settings, secret, secret_kind: self.secret_type })
    }
}

impl EndpointOut {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        let mut form = EndpointForm::of(&endpoint.settings);
        form.filter_types.clone_from(&form.event_types);
        form.rate_limit = form.throttle_rate;
        Self {
            id: endpoint.id,
            form,
            disabled_reason: endpoint.disabled_by_policy.clone(),
            created_at: shown(endpoint.created_at),
            updated_at: shown(endpoint.updated_at),
        }
    }
}

fn check_url(fields: &mut Fields, state: &State, url: &str) {
    if url.is_empty() {
        fields.wrong("url", "is required: an absolute URL such as https://example.com/webhooks");
    } else if let Err(error) = state.control().check_url(url) {
        fields.wrong("url", error);
    } else if address::is_refused(url, &state.guard) {
        fields.wrong(
            "url",
            "must not point to a private or local address; use a public one, or allow its network (--allow-networks, --dev)",
        );
    }
}

fn check_names(fields: &mut Fields, field: &str, names: Option<&[String]>, count: usize, characters: usize) {
    let Some(names) = names else { return };
    let right = (1..=count).contains(&names.len());
    fields.check(right, field, format_args!("must be 1 to {count} names, or left out to take all"));
    for (index, name) in names.iter().enumerate().take(count) {
        if !is_name(name, characters) {
            let message = format!("must be 1 to {characters} characters: {NAME_FORM}");
            fields.push(FieldError::body([field.to_owned(), index.to_string()], message));
        }
    }
}

fn check_park(fields: &mut Fields, after_secs: Option<u32>, block: Option<bool>) -> Park {
    let range = limits::PARK_AFTER_SECS_MIN..=limits::PARK_AFTER_SECS_MAX;
    match (after_secs, block.unwrap_or(false)) {
        (None, false) => Park::Default,
        (None, true) => Park::Block,
        (Some(secs), block) => {
            fields.check(!block, "parkAfterSecs", "must be left out when `block` is true");
            let (least, most) = range.clone().into_inner();
            fields.check(range.contains(&secs), "parkAfterSecs", format_args!("must be {least} to {most}"));
            Park::AfterSecs(secs)
        }
    }
}

fn check_range(fields: &mut Fields, field: &str, value: Option<u32>, most: u32) {
    fields.check(
        value.is_none_or(|value| (1..=most).contains(&value)),
        field,
        format_args!("must be 1 to {most}"),
    );
}

fn check_schedule(fields: &mut Fields, delays_secs: Option<Vec<u32>>) -> Option<RetrySchedule> {
    let schedule = RetrySchedule::new(delays_secs?);
    let (count, most) = (limits::RETRY_DELAYS, limits::RETRY_DELAY_SECS);
    fields.check(
        schedule.is_some(),
        "retrySchedule",
        format_args!("must be at most {count} delays, each 1 to {most} seconds"),
    );
    schedule
}

fn distinct(names: Vec<String>) -> Vec<String> {
    let mut distinct = Vec::with_capacity(names.len());
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    distinct
}
