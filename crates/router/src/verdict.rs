//! Whether a message is a repeat: a function of its identity and the claims that stood before it.

use std::time::Duration;

use fanfare_core::{ClaimEntry, Identity, Message, MessageId, Offset, limits};

/// What a message turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    /// Equal to this one, which stood before it.
    Alias(MessageId),
    /// Its key or event id stands for this other one.
    Conflict(MessageId),
}

/// The rule. `key` and `event_id` are the live claims of *lower* offsets under the message's own key and event id.
pub(crate) fn judge(identity: &Identity, key: Option<&ClaimEntry>, event_id: Option<&ClaimEntry>) -> Verdict {
    match (key, event_id) {
        (None, None) => Verdict::New,
        (Some(key), Some(event_id)) if key.id != event_id.id => Verdict::Conflict(key.id),
        (Some(first), _) if first.body == identity.body => Verdict::Alias(first.id),
        (None, Some(first)) if identity.key.is_none() && first.body == identity.body => {
            Verdict::Alias(first.id)
        }
        // Another body; or an event id under another key, however equal the rest.
        (Some(first), _) | (None, Some(first)) => Verdict::Conflict(first.id),
    }
}

/// What a new message claims: at most its key and its event id.
pub(crate) fn claims_of(message: &Message, offset: Offset) -> impl Iterator<Item = ClaimEntry> {
    let &Message { id, accepted_at, identity, .. } = message;
    let key_window = if identity.short_window { limits::DEDUP_WINDOW_SHORT } else { limits::DEDUP_WINDOW };
    let key = identity.key.map(|claim| (claim, key_window));
    let event_id = identity.event_id.map(|claim| (claim, limits::DEDUP_WINDOW));
    let entry = move |(claim, window): (_, Duration)| ClaimEntry {
        claim,
        body: identity.body,
        id,
        offset,
        expires_at: accepted_at + window,
    };
    key.into_iter().chain(event_id).map(entry)
}

#[cfg(test)]
mod tests {
    use fanfare_core::{Fingerprint, Timestamp};

    use super::*;

    const A: MessageId = MessageId::from_bytes([1; 20]);
    const B: MessageId = MessageId::from_bytes([2; 20]);

    fn claim(id: MessageId, body: u8) -> ClaimEntry {
        ClaimEntry {
            claim: Fingerprint([0; 16]),
            body: Fingerprint([body; 16]),
            id,
            offset: Offset::ZERO,
            expires_at: Timestamp::MAX,
        }
    }

    /// A publish with this key and event id and body 7, against what stands under each.
    fn verdict(has: (bool, bool), key: Option<ClaimEntry>, event_id: Option<ClaimEntry>) -> Verdict {
        let identity = Identity {
            key: has.0.then_some(Fingerprint([8; 16])),
            event_id: has.1.then_some(Fingerprint([9; 16])),
            body: Fingerprint([7; 16]),
            short_window: false,
        };
        judge(&identity, key.as_ref(), event_id.as_ref())
    }

    #[test]
    fn every_case_of_the_rule() {
        assert_eq!(verdict((true, true), None, None), Verdict::New);
        assert_eq!(verdict((true, false), Some(claim(A, 7)), None), Verdict::Alias(A));
        assert_eq!(verdict((true, false), Some(claim(A, 6)), None), Verdict::Conflict(A));
        assert_eq!(verdict((true, true), Some(claim(A, 7)), Some(claim(A, 7))), Verdict::Alias(A));
        assert_eq!(verdict((true, true), Some(claim(A, 6)), Some(claim(A, 6))), Verdict::Conflict(A));
        assert_eq!(verdict((true, true), Some(claim(A, 7)), Some(claim(B, 7))), Verdict::Conflict(A));
        assert_eq!(verdict((false, true), None, Some(claim(A, 7))), Verdict::Alias(A));
        assert_eq!(verdict((false, true), None, Some(claim(A, 6))), Verdict::Conflict(A));
        assert_eq!(verdict((true, true), None, Some(claim(A, 7))), Verdict::Conflict(A), "under another key");
    }
}
