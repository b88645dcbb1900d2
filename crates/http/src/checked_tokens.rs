//! Tokens that were found good a moment ago: a check costs as much as all other parsing of a small publish.

use std::collections::HashMap;

use fanfare_control::{Principal, TokenError, Tokens};
use fanfare_core::{Timestamp, limits};
use parking_lot::RwLock;

#[derive(Default)]
pub(crate) struct CheckedTokens {
    good: RwLock<HashMap<Box<str>, (Principal, Timestamp)>>,
}

impl CheckedTokens {
    /// As [`Tokens::verify`]; a token that expires may be taken a few seconds longer.
    pub(crate) fn verify(
        &self,
        tokens: &Tokens,
        token: &str,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        let remembered = self.good.read().get(token).copied();
        if let Some((principal, checked_at)) = remembered
            && now >= checked_at
            && now.since(checked_at) < limits::TOKEN_REMEMBERED
        {
            return Ok(principal);
        }
        let principal = tokens.verify(token, now)?;
        let mut good = self.good.write();
        // Only good tokens come here, and few are in use: forgetting all of them is a rare and small loss.
        if good.len() >= limits::TOKENS_REMEMBERED {
            good.clear();
        }
        good.insert(token.into(), (principal, now));
        Ok(principal)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fanfare_control::{MainSecret, default_organization};

    use super::*;

    #[test]
    fn what_expired_is_refused_soon() {
        let now = Timestamp::from_secs(1_700_000_000);
        let tokens = Tokens::new(&MainSecret::from_bytes([1; 32]));
        let token = tokens.mint_organization(default_organization(), now);
        let checked = CheckedTokens::default();
        let end = now + limits::ORGANIZATION_TOKEN;
        for at in [now, end - Duration::from_secs(1), end + Duration::from_secs(1)] {
            assert!(checked.verify(&tokens, &token, at).is_ok());
        }
        assert_eq!(checked.verify(&tokens, &token, end + limits::TOKEN_REMEMBERED), Err(TokenError::Expired));
        // A clock that went back does not prolong anything.
        assert!(checked.verify(&tokens, &format!("{token}x"), now).is_err());
        assert_eq!(checked.good.read().len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let now = Timestamp::from_secs(1_700_000_000);
        let tokens = Tokens::new(&MainSecret::from_bytes([1; 32]));
        let checked = CheckedTokens::default();
        for second in 0..limits::TOKENS_REMEMBERED as u64 + 10 {
            let at = now + Duration::from_secs(second);
            checked.verify(&tokens, &tokens.mint_organization(default_organization(), at), at).expect("good");
        }
        assert!(checked.good.read().len() <= limits::TOKENS_REMEMBERED);
    }
}
