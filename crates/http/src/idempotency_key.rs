//! The header by which a client says that a POST is the same as an earlier one.

use fanfare_core::limits;
use http::HeaderMap;

use crate::{ApiError, FieldError};

const HEADER: &str = "idempotency-key";

/// The `Idempotency-Key`; 422 unless it is 1 to 256 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(HEADER) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    match check_idempotency_key(key) {
        Ok(()) => Ok(Some(key)),
        Err(message) => Err(ApiError::invalid(vec![FieldError::at("header", [HEADER], message)])),
    }
}

/// Says what is wrong with a key, if something is.
pub fn check_idempotency_key(key: &str) -> Result<(), String> {
    let max = limits::IDEMPOTENCY_KEY_CHARACTERS;
    let right = (1..=max).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic());
    if right { Ok(()) } else { Err(format!("must be 1 to {max} visible ASCII characters")) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_is_visible_ascii() {
        let with = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(value).unwrap());
            idempotency_key(&headers).map(|key| key.map(str::to_owned))
        };
        assert_eq!(with(b"order-1"), Ok(Some("order-1".into())));
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        for wrong in [&b""[..], b"a b", "\u{e4}".as_bytes(), &[b'a'; 257]] {
            assert_eq!(with(wrong).unwrap_err().status(), 422, "{wrong:?}");
        }
    }
}
