//! What makes a publish the same as an earlier one.

use std::time::Duration;

use fanfare_core::{ApplicationId, Fingerprint, Identity, limits};

use crate::MessageIn;

/// Client libraries make such keys for their own retries, one per request.
const AUTOMATIC_PREFIX: &str = "auto_";

/// The claims of a publish. Scope is the application: two applications may use the same key.
pub(crate) fn identity(application: ApplicationId, key: Option<&str>, message: &MessageIn) -> Identity {
    let scope = application.as_bytes();
    let event_id = message.event_id.as_deref();
    let claims_something = key.is_some() || event_id.is_some();
    Identity {
        key: key.map(|key| Fingerprint::of(&[b"key", scope, key.as_bytes()])),
        event_id: event_id.map(|event_id| Fingerprint::of(&[b"event", scope, event_id.as_bytes()])),
        // Nothing is ever compared with a message that claims nothing.
        body: if claims_something { body_fingerprint(message) } else { Fingerprint([0; 16]) },
        short_window: key.is_some_and(|key| key.starts_with(AUTOMATIC_PREFIX)),
    }
}

fn body_fingerprint(message: &MessageIn) -> Fingerprint {
    // Fingerprints of whole days are those of before there were hours: a key stands for its message over an upgrade.
    let (days, hours) = (message.payload_retention_hours / 24, message.payload_retention_hours % 24);
    let counts = [message.channels.len(), message.tags.len(), days as usize];
    let counts = counts.map(|count| u8::try_from(count).expect("the limits of a message fit a byte"));
    let mut parts: Vec<&[u8]> = vec![
        b"message 1",
        message.event_type.as_bytes(),
        message.event_id.as_deref().unwrap_or_default().as_bytes(),
        message.ordering_key.as_deref().unwrap_or_default().as_bytes(),
        &message.payload,
        &counts,
    ];
    let only_for = message.only_for.map(|endpoint| endpoint.0.to_be_bytes());
    parts.extend(only_for.as_ref().map(<[u8; 4]>::as_slice));
    let hours = u16::try_from(hours).expect("a day has 24").to_be_bytes();
    if hours != [0, 0] {
        parts.push(&hours);
    }
    let deliver_at = message.deliver_at.map(|at| at.as_micros().to_be_bytes());
    parts.extend(deliver_at.as_ref().map(<[u8; 8]>::as_slice));
    parts.extend(message.channels.iter().chain(&message.tags).map(String::as_bytes));
    Fingerprint::of(&parts)
}

/// How long the key of this identity stands for its message.
pub(crate) fn key_window(identity: &Identity) -> Duration {
    if identity.short_window { limits::DEDUP_WINDOW_SHORT } else { limits::DEDUP_WINDOW }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use fanfare_core::{EndpointNumber, Timestamp};

    use super::*;

    fn message() -> MessageIn {
        MessageIn {
            event_type: "a".into(),
            event_id: None,
            channels: vec!["b".into()],
            ordering_key: None,
            tags: Vec::new(),
            payload_retention_hours: 90 * 24,
            deliver_at: None,
            only_for: None,
            payload: Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn whatever_differs_is_another_body() {
        let application = ApplicationId::from_bytes([1; 20]);
        let base = identity(application, Some("k"), &message());
        let others = [
            MessageIn { event_type: "b".into(), ..message() },
            MessageIn { event_id: Some("e".into()), ..message() },
            MessageIn { channels: Vec::new(), tags: vec!["b".into()], ..message() },
            MessageIn { ordering_key: Some("o".into()), ..message() },
            MessageIn { payload: Bytes::from_static(b"{ }"), ..message() },
            MessageIn { payload_retention_hours: 5 * 24, ..message() },
            MessageIn { payload_retention_hours: 90 * 24 - 1, ..message() },
            MessageIn { payload_retention_hours: 89 * 24, ..message() },
            MessageIn { only_for: Some(EndpointNumber(1)), ..message() },
            MessageIn { deliver_at: Some(Timestamp::from_secs(1)), ..message() },
        ];
        for other in others {
            assert_ne!(identity(application, Some("k"), &other).body, base.body, "{other:?}");
        }
        assert_eq!(identity(application, Some("k"), &message()), base);
        assert_ne!(identity(ApplicationId::from_bytes([2; 20]), Some("k"), &message()).key, base.key);
    }

    #[test]
    fn keys_of_client_libraries_have_the_short_window() {
        let application = ApplicationId::from_bytes([1; 20]);
        assert_eq!(
            key_window(&identity(application, Some("auto_1"), &message())),
            limits::DEDUP_WINDOW_SHORT
        );
        assert_eq!(key_window(&identity(application, Some("order-1"), &message())), limits::DEDUP_WINDOW);
    }
}
