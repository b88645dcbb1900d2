//! Which URLs an endpoint may have. Where its host may point to is checked when a request leaves.

use fanfare_core::limits;
use url::Url;

/// Why a URL cannot be an endpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("expected an absolute URL such as https://example.com/webhooks")]
    Malformed,
    #[error("expected a URL of at most {max} characters", max = limits::URL_CHARACTERS)]
    TooLong,
    #[error("expected an https URL")]
    NotHttps,
    #[error("expected an http or https URL")]
    NotHttp,
    #[error("expected a URL without user name and password; use headers instead")]
    Credentials,
}

pub(crate) fn check(text: &str, allow_http: bool) -> Result<Url, UrlError> {
    if text.chars().count() > limits::URL_CHARACTERS {
        return Err(UrlError::TooLong);
    }
    let url = Url::parse(text).map_err(|_| UrlError::Malformed)?;
    match url.scheme() {
        "https" => {}
        "http" if allow_http => {}
        _ if allow_http => return Err(UrlError::NotHttp),
        _ => return Err(UrlError::NotHttps),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::Credentials);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_would_be_right() {
        assert!(check("https://example.com/a?b=c", false).is_ok());
        assert!(check("http://127.0.0.1:9/", true).is_ok());
        assert_eq!(check("http://example.com/", false).err(), Some(UrlError::NotHttps));
        assert_eq!(check("ftp://example.com/", true).err(), Some(UrlError::NotHttp));
        assert_eq!(check("example.com", false).err(), Some(UrlError::Malformed));
        assert_eq!(check("https://", false).err(), Some(UrlError::Malformed));
        assert_eq!(check("https://a:b@example.com", false).err(), Some(UrlError::Credentials));
        assert_eq!(
            check(&format!("https://e.example/{}", "a".repeat(2_048)), false).err(),
            Some(UrlError::TooLong)
        );
    }
}
