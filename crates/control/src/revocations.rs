//! Tokens that are refused although they are signed and their time is not up.
//!
//! One by one, by fingerprint, until they would have expired; and by orders that expire all tokens of an application, or
//! of one session of it, that were made until then. API keys are not tokens: they are deleted.

use std::collections::{BTreeSet, HashMap};

use fanfare_core::{ApplicationId, Fingerprint, Timestamp, limits};

use crate::{access::TokenMark, reducer::Refusal};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Revocations {
    /// With when they expire.
    tokens: HashMap<[u8; 16], Timestamp>,
    by_expiry: BTreeSet<(Timestamp, [u8; 16])>,
    applications: HashMap<ApplicationId, Expired>,
}

/// Of one application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expired {
    all: Expiries,
    sessions: HashMap<[u8; 16], Expiries>,
}

/// Tokens made at or before `issued_until` are refused from `from` on; [`Timestamp::ZERO`]: at once, whatever the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    pub(crate) issued_until: Timestamp,
    pub(crate) from: Timestamp,
}

/// Orders of which none makes another one needless: the later one was given, the later it comes into force. Of those in
/// force there is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Expiries(Vec<Expiry>);

impl Revocations {
    /// From when on the token is refused; [`Timestamp::MAX`]: not before it expires.
    pub(crate) fn refused_from(&self, token: &TokenMark, application: Option<ApplicationId>) -> Timestamp {
        if self.tokens.contains_key(&token.fingerprint.0) {
            return Timestamp::ZERO;
        }
        let Some(expired) = application.and_then(|id| self.applications.get(&id)) else {
            return Timestamp::MAX;
        };
        let of_session = token.session.and_then(|session| expired.sessions.get(&session.0));
        let of_all = expired.all.refused_from(token.issued_at);
        of_session.map_or(of_all, |expiries| of_all.min(expiries.refused_from(token.issued_at)))
    }

    /// Tokens of the application that were made at or before this are refused, some time or now.
    pub(crate) fn issued_until(&self, application: ApplicationId, session: Option<Fingerprint>) -> Timestamp {
        let Some(expired) = self.applications.get(&application) else { return Timestamp::ZERO };
        let of_session = session.and_then(|session| expired.sessions.get(&session.0));
        expired.all.issued_until().max(of_session.map_or(Timestamp::ZERO, Expiries::issued_until))
    }

    /// Whether there is room for one more token at `at`.
    pub(crate) fn check_revoke(&self, at: Timestamp) -> Result<(), Refusal> {
        let some_lapse = self.by_expiry.first().is_some_and(|(expires_at, _)| has_lapsed(*expires_at, at));
        if self.tokens.len() < limits::REVOKED_TOKENS || some_lapse {
            Ok(())
        } else {
            Err(Refusal::TooManyRevoked)
        }
    }

    pub(crate) fn revoke(&mut self, token: Fingerprint, expires_at: Timestamp, at: Timestamp) {
        while let Some(&(first, oldest)) = self.by_expiry.first()
            && has_lapsed(first, at)
        {
            self.by_expiry.pop_first();
            self.tokens.remove(&oldest);
        }
        if let Some(known) = self.tokens.insert(token.0, expires_at) {
            self.by_expiry.remove(&(known, token.0));
        }
        self.by_expiry.insert((expires_at, token.0));
    }

    /// Whether an order can be remembered; without sessions it is for all.
    pub(crate) fn check_expire(
        &self,
        application: ApplicationId,
        sessions: &[Fingerprint],
        expiry: Expiry,
        at: Timestamp,
    ) -> Result<(), Refusal> {
        let Some(expired) = self.applications.get(&application) else { return Ok(()) };
        if sessions.is_empty() {
            return expired.all.check(expiry, at);
        }
        let known = |session: &Fingerprint| expired.sessions.get(&session.0);
        for expiries in sessions.iter().filter_map(known) {
            expiries.check(expiry, at)?;
        }
        let kept = expired.sessions.values().filter(|expiries| !expiries.have_lapsed(at)).count();
        let new = sessions.iter().filter(|session| known(session).is_none()).count();
        if kept + new > limits::SESSIONS_EXPIRED { Err(Refusal::TooManySessions) } else { Ok(()) }
    }

    pub(crate) fn expire(
        &mut self,
        application: ApplicationId,
        sessions: &[Fingerprint],
        expiry: Expiry,
        at: Timestamp,
    ) {
        let expired = self.applications.entry(application).or_default();
        if sessions.is_empty() {
            expired.all.add(expiry, at);
            return;
        }
        expired.sessions.retain(|_, expiries| !expiries.have_lapsed(at));
        for session in sessions {
            expired.sessions.entry(session.0).or_default().add(expiry, at);
        }
    }

    /// The application is gone, and nothing opens it any more.
    pub(crate) fn forget(&mut self, application: ApplicationId) {
        self.applications.remove(&application);
    }
}

impl Expiries {
    fn refused_from(&self, issued_at: Timestamp) -> Timestamp {
        let meant = self.0.iter().filter(|expiry| issued_at <= expiry.issued_until);
        meant.map(|expiry| expiry.from).min().unwrap_or(Timestamp::MAX)
    }

    fn issued_until(&self) -> Timestamp {
        self.0.iter().map(|expiry| expiry.issued_until).max().unwrap_or(Timestamp::ZERO)
    }

    fn check(&self, expiry: Expiry, at: Timestamp) -> Result<(), Refusal> {
        let mut with_it = self.clone();
        with_it.add(expiry, at);
        if with_it.0.len() > limits::EXPIRIES_PENDING { Err(Refusal::TooManyExpiries) } else { Ok(()) }
    }

    fn add(&mut self, expiry: Expiry, at: Timestamp) {
        // Those that are in force by now become one. It says "sooner" of some of their tokens, never "later": by the
        // clock of another process their time may still be to come.
        let (in_force, mut kept): (Vec<Expiry>, Vec<Expiry>) =
            self.0.drain(..).partition(|old| old.from <= at);
        let together = in_force.into_iter().reduce(|one, other| Expiry {
            issued_until: one.issued_until.max(other.issued_until),
            from: one.from.min(other.from),
        });
        kept.extend(together);
        if !kept.iter().any(|old| old.covers(expiry)) {
            kept.retain(|old| !expiry.covers(*old));
            kept.push(expiry);
        }
        self.0 = kept;
    }

    /// No token of such a session is left.
    fn have_lapsed(&self, at: Timestamp) -> bool {
        has_lapsed(self.issued_until() + limits::APPLICATION_TOKEN, at)
    }
}

impl Expiry {
    fn covers(self, other: Self) -> bool {
        self.issued_until >= other.issued_until && self.from <= other.from
    }
}

fn has_lapsed(expires_at: Timestamp, at: Timestamp) -> bool {
    expires_at + limits::REVOKED_TOKEN_KEPT <= at
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::time::Duration;

    use super::*;
    use crate::access::TokenId;

    const AT: Timestamp = Timestamp::from_secs(1_000_000);
    const SECOND: Duration = Duration::from_secs(1);

    fn application(number: u8) -> ApplicationId {
        ApplicationId::from_bytes([number; 20])
    }

    fn token(number: u8, issued_at: Timestamp, session: Option<u8>) -> TokenMark {
        let fingerprint = Fingerprint([number; 16]);
        TokenMark {
            id: TokenId(fingerprint),
            fingerprint,
            issued_at,
            expires_at: issued_at + limits::APPLICATION_TOKEN,
            session: session.map(|session| Fingerprint([session; 16])),
        }
    }

    fn now(issued_until: Timestamp) -> Expiry {
        Expiry { issued_until, from: Timestamp::ZERO }
    }

    #[test]
    fn a_revoked_token_is_remembered_until_it_would_have_expired() {
        let mut revocations = Revocations::default();
        let (one, other) = (token(1, AT, None), token(2, AT, None));
        revocations.revoke(one.fingerprint, one.expires_at, AT);
        assert_eq!(revocations.refused_from(&one, None), Timestamp::ZERO);
        assert_eq!(revocations.refused_from(&other, None), Timestamp::MAX);
        let expired = one.expires_at;
        revocations.revoke(other.fingerprint, expired + limits::APPLICATION_TOKEN, expired);
        assert_eq!(revocations.refused_from(&one, None), Timestamp::ZERO, "clocks differ");
        revocations.revoke(other.fingerprint, AT, expired + limits::REVOKED_TOKEN_KEPT);
        assert_eq!(revocations.refused_from(&one, None), Timestamp::MAX);
        assert_eq!((revocations.tokens.len(), revocations.by_expiry.len()), (1, 1));
    }

    #[test]
    fn when_there_is_no_room_a_token_is_not_forgotten_for_another() {
        let mut revocations = Revocations::default();
        for number in 0..limits::REVOKED_TOKENS as u128 {
            revocations.check_revoke(AT).unwrap();
            revocations.revoke(Fingerprint(number.to_be_bytes()), AT, AT);
        }
        assert_eq!(revocations.check_revoke(AT), Err(Refusal::TooManyRevoked));
        assert_eq!(revocations.check_revoke(AT + limits::REVOKED_TOKEN_KEPT), Ok(()));
    }

    #[test]
    fn an_order_reaches_what_was_made_until_then_and_no_other_application() {
        let mut revocations = Revocations::default();
        revocations.expire(application(1), &[], now(AT), AT);
        let refused = |issued_at, of| revocations.refused_from(&token(9, issued_at, None), Some(of));
        assert_eq!(refused(AT, application(1)), Timestamp::ZERO);
        assert_eq!(refused(AT + Duration::from_micros(1), application(1)), Timestamp::MAX);
        assert_eq!(refused(AT, application(2)), Timestamp::MAX);
        assert_eq!(revocations.refused_from(&token(9, AT, None), None), Timestamp::MAX);
        assert_eq!(revocations.issued_until(application(1), None), AT);
    }

    #[test]
    fn a_session_is_expired_alone() {
        let mut revocations = Revocations::default();
        revocations.expire(application(1), &[Fingerprint([7; 16])], now(AT), AT);
        let refused = |session| revocations.refused_from(&token(9, AT, session), Some(application(1)));
        assert_eq!(refused(Some(7)), Timestamp::ZERO);
        assert_eq!((refused(Some(8)), refused(None)), (Timestamp::MAX, Timestamp::MAX));
    }

    #[test]
    fn an_order_to_come_neither_hides_nor_undoes_another() {
        let mut revocations = Revocations::default();
        let later = |at: Timestamp, delay: Duration| Expiry { issued_until: at, from: at + delay };
        let app = application(1);
        let mut give = |expiry, at| {
            revocations.check_expire(app, &[], expiry, at).unwrap();
            revocations.expire(app, &[], expiry, at);
            let refused = |at| revocations.refused_from(&token(9, at, None), Some(app));
            (refused(AT), refused(AT + SECOND), revocations.applications[&app].all.0.len())
        };
        let never = Timestamp::MAX;
        assert_eq!(give(later(AT, SECOND * 100), AT), (AT + SECOND * 100, never, 1));
        // Given later, in force later: both stand.
        let second = AT + SECOND;
        assert_eq!(give(later(second, SECOND * 200), second), (AT + SECOND * 100, second + SECOND * 200, 2));
        // In force sooner than the second, and reaches further.
        assert_eq!(give(later(second, SECOND * 150), second), (AT + SECOND * 100, second + SECOND * 150, 2));
        let (third, at_once) = (AT + SECOND * 2, Timestamp::ZERO);
        assert_eq!(give(now(third), third), (at_once, at_once, 1));
    }

    /// However many orders are given, what was refused stays refused, and few are remembered.
    #[test]
    fn orders_in_force_become_one() {
        let mut revocations = Revocations::default();
        let app = application(1);
        for hour in 0..1_000 {
            let at = AT + Duration::from_hours(hour);
            let expiry = Expiry { issued_until: at, from: at + Duration::from_mins(90) };
            revocations.check_expire(app, &[], expiry, at).unwrap();
            revocations.expire(app, &[], expiry, at);
            for earlier in 0..hour.saturating_sub(1) {
                let issued_at = AT + Duration::from_hours(earlier);
                assert!(revocations.refused_from(&token(9, issued_at, None), Some(app)) <= at);
            }
            assert!(revocations.applications[&app].all.0.len() <= 3);
        }
    }

    #[test]
    fn orders_to_come_and_sessions_are_bounded() {
        let mut revocations = Revocations::default();
        let app = application(1);
        let expiry = |n: u32| Expiry { issued_until: AT + SECOND * n, from: AT + SECOND * (1_000 + n) };
        for n in 0..u32::try_from(limits::EXPIRIES_PENDING).unwrap() {
            revocations.check_expire(app, &[], expiry(n), AT).unwrap();
            revocations.expire(app, &[], expiry(n), AT);
        }
        assert_eq!(revocations.check_expire(app, &[], expiry(99), AT), Err(Refusal::TooManyExpiries));
        assert_eq!(
            revocations.check_expire(app, &[], now(AT + SECOND * 99), AT),
            Ok(()),
            "at once always works"
        );

        let sessions: Vec<_> =
            (0..limits::SESSIONS_EXPIRED as u128).map(|n| Fingerprint(n.to_be_bytes())).collect();
        revocations.check_expire(app, &sessions, now(AT), AT).unwrap();
        revocations.expire(app, &sessions, now(AT), AT);
        let new = [Fingerprint([9; 16])];
        assert_eq!(revocations.check_expire(app, &new, now(AT), AT), Err(Refusal::TooManySessions));
        assert_eq!(revocations.check_expire(app, &sessions, now(AT), AT), Ok(()), "known ones take no room");
        let lapsed = AT + limits::APPLICATION_TOKEN + limits::REVOKED_TOKEN_KEPT;
        revocations.check_expire(app, &new, now(lapsed), lapsed).unwrap();
        revocations.expire(app, &new, now(lapsed), lapsed);
        assert_eq!(revocations.applications[&app].sessions.len(), 1);
    }
}
