//! Idempotency keys of control-plane POSTs, as the reducer remembers them.

use std::collections::{HashMap, VecDeque};

use fanfare_core::{Timestamp, limits};

use crate::{command::ControlKey, reducer::Resource};

/// Keys of carried-out POSTs, for [`limits::CONTROL_KEY_WINDOW`] of record time and at most
/// [`limits::CONTROL_KEYS`]; beyond that the oldest go first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Where in the queue a key's entry is, counted from the first one ever.
    places: HashMap<[u8; 16], u64>,
    entries: VecDeque<Entry>,
    /// Entries that have left the queue.
    gone: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    key: ControlKey,
    at: Timestamp,
    resource: Resource,
}

/// What is known of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known<'a> {
    No,
    Same(&'a Resource),
    OtherBody,
}

impl Keys {
    pub(crate) fn known(&self, key: ControlKey, at: Timestamp) -> Known<'_> {
        let Some(place) = self.places.get(&key.key.0) else { return Known::No };
        let index = usize::try_from(place - self.gone).expect("the queue is in memory");
        let entry = &self.entries[index];
        if at.since(entry.at) >= limits::CONTROL_KEY_WINDOW {
            return Known::No;
        }
        if entry.key.body == key.body { Known::Same(&entry.resource) } else { Known::OtherBody }
    }

    pub(crate) fn remember(&mut self, key: ControlKey, at: Timestamp, resource: Resource) {
        self.forget_lapsed(at);
        self.places.insert(key.key.0, self.gone + self.entries.len() as u64);
        self.entries.push_back(Entry { key, at, resource });
    }

    fn forget_lapsed(&mut self, at: Timestamp) {
        while let Some(first) = self.entries.front() {
            let lapsed = at.since(first.at) >= limits::CONTROL_KEY_WINDOW;
            if !lapsed && self.entries.len() < limits::CONTROL_KEYS {
                return;
            }
            // The key may have been used again since, and then its place is another.
            if self.places.get(&first.key.key.0) == Some(&self.gone) {
                self.places.remove(&first.key.key.0);
            }
            self.entries.pop_front();
            self.gone += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fanfare_core::{ApplicationId, Fingerprint};

    use super::*;

    fn key(key: u8, body: u8) -> ControlKey {
        ControlKey { key: Fingerprint([key; 16]), body: Fingerprint([body; 16]) }
    }

    #[test]
    fn a_key_lapses_and_may_be_used_again() {
        let [start, within] = [Timestamp::from_secs(1_000), Timestamp::from_secs(1_000 + 12 * 3_600 - 1)];
        let after = within + Duration::from_secs(1);
        let (first, second) = (
            Resource::Application(ApplicationId::from_bytes([1; 20])),
            Resource::Application(ApplicationId::from_bytes([2; 20])),
        );
        let mut keys = Keys::default();
        keys.remember(key(1, 1), start, first.clone());
        assert_eq!(keys.known(key(1, 1), within), Known::Same(&first));
        assert_eq!(keys.known(key(1, 2), within), Known::OtherBody);
        assert_eq!(keys.known(key(2, 1), within), Known::No);
        assert_eq!(keys.known(key(1, 2), after), Known::No);

        // A clock that stood still keeps the first entry in the queue while the key gets a second one.
        keys.remember(key(1, 2), after, second.clone());
        keys.remember(key(3, 3), after, first.clone());
        assert_eq!(keys.known(key(1, 2), after), Known::Same(&second));
        assert_eq!(keys.known(key(3, 3), after), Known::Same(&first));
        assert_eq!((keys.entries.len(), keys.places.len()), (2, 2));
    }
}
