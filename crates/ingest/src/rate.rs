//! Rate limits of publishing: so many messages per second, by token or API key, and by application.
//!
//! Each holder of a limit has a bucket with room for what may come in one second; it fills evenly. Kept is only when it
//! will be full again, and of those that are full nothing. A request of many messages is let in if one message would
//! be, and counts for all of them: who comes next waits the longer. Limits are those of this process; where several
//! take messages in, each has its own buckets.
//!
//! Clients are told in the headers `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10:
//!
//! ```text
//! RateLimit-Policy: "token";q=100;w=1, "application";q=20;w=1      q messages in w seconds
//! RateLimit: "token";r=99;t=1, "application";r=19;t=1              r are left; after t seconds all are there again
//! ```

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use fanfare_control::{Application, Credential};
use fanfare_core::{ApiKeyId, ApplicationId, Fingerprint, limits};
use fanfare_http::{ApiError, Quota};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use tokio::time::Instant;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const WINDOW: Duration = Duration::from_secs(1);

/// The limits of a process.
pub struct Rates {
    per_token: Option<u32>,
    /// Of applications that do not say.
    per_application: Option<u32>,
    full_at: Mutex<HashMap<Holder, Instant>>,
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Holder {
    Token(Fingerprint),
    Key(ApiKeyId),
    Application(ApplicationId),
}

/// One limit that a request comes under.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    policy: &'static str,
    holder: Holder,
    /// Messages per second; more than 0.
    rate: u32,
}

/// How a limit stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Level {
    policy: &'static str,
    rate: u32,
    left: u32,
    full_in: Duration,
}

/// What a client is told of its limits.
#[derive(Debug, Default)]
pub(crate) struct Standing(Vec<Level>);

impl Rates {
    /// Messages per second; `None`: as many as come.
    pub fn new(per_token: Option<u32>, per_application: Option<u32>) -> Self {
        Self { per_token, per_application, full_at: Mutex::default() }
    }

    /// Counts one message, unless it comes too soon: then 429, and nothing is counted.
    pub(crate) fn admit(
        &self,
        credential: &Credential,
        application: Option<&Application>,
    ) -> Result<Standing, ApiError> {
        let buckets = self.buckets(credential, application);
        if buckets.iter().all(Option::is_none) {
            return Ok(Standing::default());
        }
        let now = Instant::now();
        let full_at = &mut *self.full_at.lock();
        let soonest = buckets.iter().flatten().map(|bucket| bucket.room_at(full_at, now)).max();
        let wait = soonest.map_or(Duration::ZERO, |soonest| soonest.saturating_duration_since(now));
        if !wait.is_zero() {
            let levels = buckets.iter().flatten().map(|bucket| bucket.level(full_at, now)).collect();
            return Err(Standing(levels).exceeded(wait));
        }
        Ok(Standing(buckets.iter().flatten().map(|bucket| bucket.take(full_at, now, 1)).collect()))
    }

    /// Counts further messages of a request that was let in.
    pub(crate) fn charge(
        &self,
        credential: &Credential,
        application: &Application,
        messages: u32,
    ) -> Standing {
        let now = Instant::now();
        let full_at = &mut *self.full_at.lock();
        let buckets = self.buckets(credential, Some(application));
        Standing(buckets.iter().flatten().map(|bucket| bucket.take(full_at, now, messages)).collect())
    }

    fn buckets(&self, credential: &Credential, application: Option<&Application>) -> [Option<Bucket>; 2] {
        let holder = match credential {
            Credential::Token(token) => Holder::Token(token.fingerprint),
            Credential::Key(id) => Holder::Key(*id),
        };
        let token = self.per_token.map(|rate| Bucket { policy: "token", holder, rate });
        let application = application.and_then(|application| {
            let rate = application.settings.publish_rate.or(self.per_application)?;
            Some(Bucket { policy: "application", holder: Holder::Application(application.id), rate })
        });
        [token, application].map(|bucket| bucket.filter(|bucket| bucket.rate > 0))
    }
}

type FullAt = HashMap<Holder, Instant>;

impl Bucket {
    /// What one message takes to come back.
    fn interval(self) -> Duration {
        WINDOW / self.rate
    }

    fn full_at(self, full_at: &FullAt, now: Instant) -> Instant {
        full_at.get(&self.holder).map_or(now, |full_at| (*full_at).max(now))
    }

    /// When there is room for one message.
    fn room_at(self, full_at: &FullAt, now: Instant) -> Instant {
        let full_at = self.full_at(full_at, now) + self.interval();
        full_at.checked_sub(WINDOW).map_or(now, |room_at| room_at.max(now))
    }

    fn take(self, full_at: &mut FullAt, now: Instant, messages: u32) -> Level {
        if full_at.len() >= limits::RATES_REMEMBERED {
            full_at.retain(|_, full_at| *full_at > now);
            // Whoever has so many tokens in use at once loses the count of one second.
            if full_at.len() >= limits::RATES_REMEMBERED {
                full_at.clear();
            }
        }
        let full = self.full_at(full_at, now) + self.interval() * messages;
        full_at.insert(self.holder, full);
        self.level(full_at, now)
    }

    fn level(self, full_at: &FullAt, now: Instant) -> Level {
        let full_in = self.full_at(full_at, now) - now;
        let room = WINDOW.saturating_sub(full_in);
        let left = room.as_nanos() / self.interval().as_nanos().max(1);
        let left = u32::try_from(left).unwrap_or(u32::MAX).min(self.rate);
        Level { policy: self.policy, rate: self.rate, left, full_in }
    }
}

impl Standing {
    /// The headers of an answer; none where there are no limits.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        if !self.0.is_empty() {
            headers.extend(self.headers());
        }
    }

    fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let (mut policies, mut levels) = (String::new(), String::new());
        for level in &self.0 {
            let Level { policy, rate, left, full_in } = level;
            let comma = if policies.is_empty() { "" } else { ", " };
            let (window, full_in) = (WINDOW.as_secs(), whole_secs(*full_in));
            let written = write!(policies, r#"{comma}"{policy}";q={rate};w={window}"#)
                .and_then(|()| write!(levels, r#"{comma}"{policy}";r={left};t={full_in}"#));
            written.expect("writing to a string");
        }
        let value =
            |text: String| HeaderValue::try_from(text).expect("names and numbers are printable ASCII");
        [(POLICY, value(policies)), (LIMIT, value(levels))]
    }

    fn exceeded(&self, wait: Duration) -> ApiError {
        let violated: Vec<&'static str> =
            self.0.iter().filter(|level| level.left == 0).map(|level| level.policy).collect();
        let rates = self.0.iter().filter(|level| level.left == 0).map(|level| level.rate);
        let rate = rates.min().unwrap_or_default();
        let detail = format!(
            "more than {rate} messages per second of this {}; send it again after `Retry-After`",
            violated.join(" and this ")
        );
        let after = Duration::from_secs(whole_secs(wait).max(1));
        ApiError::rate_limited(detail, after, Quota { violated, headers: self.headers().to_vec() })
    }
}

fn whole_secs(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;
