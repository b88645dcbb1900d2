//! Ids as people and programs see them.

use fanfare_core::{ApplicationId, EndpointId, MessageId, Timestamp};
use proptest::prelude::*;

/// 2014-05-13 and 2150: what a KSUID can name without wrapping.
const MINTABLE_SECS: std::ops::Range<i64> = 1_400_000_000..5_680_000_000;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn printed_ids_parse(bytes in any::<[u8; 20]>()) {
        let id = MessageId::from_bytes(bytes);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 31);
        prop_assert_eq!(text.parse(), Ok(id));
    }

    #[test]
    fn ids_and_their_texts_order_by_time(
        earlier in MINTABLE_SECS,
        later in MINTABLE_SECS,
        random in any::<([u8; 15], [u8; 15])>(),
    ) {
        prop_assume!(earlier != later);
        let (earlier, later) = (earlier.min(later), earlier.max(later));
        let first = MessageId::mint(Timestamp::from_secs(earlier), random.0);
        let second = MessageId::mint(Timestamp::from_secs(later), random.1);
        prop_assert!(first < second);
        prop_assert!(first.to_string() < second.to_string());
    }

    #[test]
    fn other_kinds_are_refused(bytes in any::<[u8; 20]>()) {
        let text = MessageId::from_bytes(bytes).to_string();
        prop_assert!(text.parse::<ApplicationId>().is_err());
        prop_assert!(text.parse::<EndpointId>().is_err());
        prop_assert!(text["msg_".len()..].parse::<MessageId>().is_err());
    }

    #[test]
    fn garbage_is_no_id(text in ".{0,40}") {
        if let Ok(id) = text.parse::<MessageId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

#[test]
fn texts_above_160_bits_are_no_ids() {
    assert!(format!("msg_{}", "z".repeat(27)).parse::<MessageId>().is_err());
}

#[test]
fn ids_minted_four_milliseconds_apart_differ_in_order() {
    let at = Timestamp::from_millis(1_700_000_000_000);
    let later = Timestamp::from_millis(1_700_000_000_004);
    assert!(MessageId::mint(at, [0xff; 15]) < MessageId::mint(later, [0; 15]));
}
