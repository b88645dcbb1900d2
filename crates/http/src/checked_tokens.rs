//! Tokens and API keys that were found good a moment ago: a check costs as much as all other parsing of a small
//! publish.
//!
//! A check is remembered with the revision of the credentials that it was made at. With the next revocation that this
//! process learns of, everything is checked anew.

use std::collections::HashMap;

use fanfare_control::{Access, TokenError};
use fanfare_core::{Timestamp, limits};
use parking_lot::RwLock;

#[derive(Default)]
pub(crate) struct CheckedTokens {
    good: RwLock<HashMap<Box<str>, Checked>>,
}

#[derive(Clone, Copy)]
struct Checked {
    access: Access,
    at: Timestamp,
    revision: u64,
}

impl Checked {
    fn counts(&self, now: Timestamp, revision: u64) -> bool {
        self.revision == revision
            // A clock that went back does not prolong anything.
            && now >= self.at
            && now.since(self.at) < limits::TOKEN_REMEMBERED
            && now < self.access.until
    }
}

impl CheckedTokens {
    /// What `check` says, or said of the token a moment ago. `revision` is read before anything is checked: what is
    /// revoked meanwhile raises it.
    pub(crate) fn verify(
        &self,
        token: &str,
        now: Timestamp,
        revision: u64,
        check: impl FnOnce() -> Result<Access, TokenError>,
    ) -> Result<Access, TokenError> {
        let remembered = self.good.read().get(token).copied();
        if let Some(checked) = remembered
            && checked.counts(now, revision)
        {
            return Ok(checked.access);
        }
        let access = check()?;
        let mut good = self.good.write();
        // Only good tokens come here, and few are in use: forgetting all of them is a rare and small loss.
        if good.len() >= limits::TOKENS_REMEMBERED {
            good.clear();
        }
        good.insert(token.into(), Checked { access, at: now, revision });
        Ok(access)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{cell::Cell, time::Duration};

    use fanfare_control::{Credential, Principal, Scope, default_organization};
    use fanfare_core::ApiKeyId;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_700_000_000);

    fn good(until: Timestamp) -> Access {
        Access {
            principal: Principal::Organization(default_organization()),
            scope: Scope::Full,
            credential: Credential::Key(ApiKeyId::from_bytes([1; 20])),
            until,
        }
    }

    #[test]
    fn a_good_token_is_checked_once_in_a_while() {
        let checked = CheckedTokens::default();
        let checks = Cell::new(0);
        let verify = |now, revision| {
            let check = || {
                checks.set(checks.get() + 1);
                Ok(good(Timestamp::MAX))
            };
            checked.verify("a", now, revision, check).unwrap();
            checks.get()
        };
        assert_eq!(verify(NOW, 0), 1);
        let last = NOW + limits::TOKEN_REMEMBERED - Duration::from_micros(1);
        assert_eq!(verify(last, 0), 1, "it is remembered");
        assert_eq!(verify(NOW + limits::TOKEN_REMEMBERED, 0), 2, "not for ever");
        assert_eq!(verify(NOW, 0), 3, "a clock that went back does not prolong anything");
        assert_eq!(verify(NOW, 0), 3);
    }

    #[test]
    fn what_was_revoked_is_refused_at_once() {
        let checked = CheckedTokens::default();
        checked.verify("a", NOW, 7, || Ok(good(Timestamp::MAX))).unwrap();
        assert_eq!(checked.verify("a", NOW, 8, || Err(TokenError::Revoked)), Err(TokenError::Revoked));
        // Nor does a check that is older than the revocation come back.
        assert_eq!(checked.verify("a", NOW, 8, || Err(TokenError::Revoked)), Err(TokenError::Revoked));
    }

    #[test]
    fn what_expires_is_refused_then() {
        let checked = CheckedTokens::default();
        let until = NOW + Duration::from_secs(2);
        let expired = || Err(TokenError::Expired);
        checked.verify("a", NOW, 0, || Ok(good(until))).unwrap();
        checked.verify("a", until - Duration::from_micros(1), 0, expired).unwrap();
        assert_eq!(checked.verify("a", until, 0, expired), Err(TokenError::Expired));
        assert_eq!(checked.verify("b", NOW, 0, expired), Err(TokenError::Expired));
        assert_eq!(checked.good.read().len(), 1, "bad ones take no room");
    }

    #[test]
    fn memory_is_bounded() {
        let checked = CheckedTokens::default();
        for number in 0..limits::TOKENS_REMEMBERED + 10 {
            checked.verify(&number.to_string(), NOW, 0, || Ok(good(Timestamp::MAX))).unwrap();
        }
        assert!(checked.good.read().len() <= limits::TOKENS_REMEMBERED);
    }
}
