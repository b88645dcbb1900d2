//! When API keys were used last: noted in memory, and written down seldom, off the way of any request.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use fanfare_control::{Command, Control};
use fanfare_core::{ApiKeyId, Clock, Timestamp, limits};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Duration, sleep},
};

/// How often is looked whether what was not due yet is due.
const LOOK_EVERY: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(crate) struct KeyUse {
    /// Not written down yet. Only keys that exist come here, which are few.
    noted: Mutex<HashMap<ApiKeyId, Timestamp>>,
    some: Notify,
}

impl KeyUse {
    pub(crate) fn note(&self, key: ApiKeyId, now: Timestamp) {
        self.noted.lock().insert(key, now);
        self.some.notify_one();
    }

    /// What is known here and not written down yet.
    pub(crate) fn noted(&self, key: ApiKeyId) -> Option<Timestamp> {
        self.noted.lock().get(&key).copied()
    }

    /// Writes down what is due, until it is dropped. What is in memory then is lost: it was only ever a hint.
    pub(crate) async fn write(self: Arc<Self>, control: Control, clock: Arc<dyn Clock>) {
        loop {
            if self.noted.lock().is_empty() {
                self.some.notified().await;
            } else {
                sleep(LOOK_EVERY).await;
            }
            sleep(limits::API_KEY_USE_GATHERED).await;
            let uses = self.due(&control, clock.now());
            if uses.is_empty() {
                continue;
            }
            let command = Command::NoteApiKeyUse { uses: uses.clone() };
            match control.submit(command, None).await {
                Ok(_) => self.forget(&uses),
                Err(error) => tracing::debug!(%error, "the use of API keys could not be written down"),
            }
        }
    }

    /// Those of which nothing was written down for a while, by any process. Keys that are gone are forgotten.
    fn due(&self, control: &Control, now: Timestamp) -> BTreeMap<ApiKeyId, Timestamp> {
        let view = control.view();
        let mut noted = self.noted.lock();
        noted.retain(|id, _| view.api_key(*id).is_some());
        let is_due = |id: ApiKeyId| {
            let written = view.api_key(id).and_then(|key| key.used_at);
            written.is_none_or(|written| now.since(written) >= limits::API_KEY_USE_EVERY)
        };
        let due = noted.iter().filter(|(id, _)| is_due(**id)).take(limits::API_KEY_USES_PER_RECORD);
        due.map(|(id, at)| (*id, *at)).collect()
    }

    /// Unless they were used again since.
    fn forget(&self, written: &BTreeMap<ApiKeyId, Timestamp>) {
        self.noted.lock().retain(|id, at| written.get(id) != Some(at));
    }
}
