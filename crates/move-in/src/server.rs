//! Where a server is, and what opens it.

use std::{fmt, str::FromStr};

use http::HeaderValue;
use url::{Host, Url};

/// Below which all routes stand. A URL may name it or leave it out.
const ROUTES: &str = "/api/v1";

/// The two ends of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Only read.
    Source,
    Target,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "the source",
            Self::Target => "the target",
        })
    }
}

/// A server by its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub(crate) tls: bool,
    pub(crate) host: Host<String>,
    pub(crate) port: u16,
    /// For the header `host`.
    pub(crate) authority: String,
    /// What stands before every route's path, [`ROUTES`] at its end.
    pub(crate) base: String,
}

/// A text that is not a server's URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("`{0}` is not a URL such as https://api.example.com")]
    Malformed(String),
    #[error("`{0}` must begin with https://, or http:// if it is to go without TLS")]
    Scheme(String),
    #[error("the URL must have neither user name nor password: the token is given by itself")]
    Credentials,
    #[error("the URL must end with the path: no `?` and no `#`")]
    Rest,
}

impl FromStr for Server {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let malformed = || BadUrl::Malformed(text.to_owned());
        let url = match Url::parse(text) {
            Ok(url) => url,
            // As people type it.
            Err(url::ParseError::RelativeUrlWithoutBase) => return Err(BadUrl::Scheme(text.to_owned())),
            Err(_) => return Err(malformed()),
        };
        if !["http", "https"].contains(&url.scheme()) {
            return Err(BadUrl::Scheme(text.to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(BadUrl::Credentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(BadUrl::Rest);
        }
        let host = url.host().ok_or_else(malformed)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(malformed)?;
        let authority = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let path = url.path().trim_end_matches('/');
        let base = format!("{}{ROUTES}", path.strip_suffix(ROUTES).unwrap_or(path));
        Ok(Self { tls: url.scheme() == "https", host, port, authority, base })
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }
}

/// A bearer token. Never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(HeaderValue);

/// A text that cannot stand in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is one line of visible characters, and not empty")]
pub struct BadToken;

impl Token {
    pub(crate) fn authorization(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for Token {
    type Err = BadToken;

    fn from_str(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadToken);
        }
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| BadToken)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn urls_name_a_server_with_or_without_the_routes() {
        for (text, shown, port, base) in [
            ("https://api.example.com", "https://api.example.com", 443, "/api/v1"),
            ("https://api.example.com/", "https://api.example.com", 443, "/api/v1"),
            ("http://127.0.0.1:8071/api/v1/", "http://127.0.0.1:8071", 8071, "/api/v1"),
            ("http://[::1]:8071", "http://[::1]:8071", 8071, "/api/v1"),
            ("https://example.com/hooks", "https://example.com", 443, "/hooks/api/v1"),
        ] {
            let server: Server = text.parse().unwrap();
            assert_eq!((server.to_string().as_str(), server.port, server.base.as_str()), (shown, port, base));
        }
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("api.example.com", "https://"),
            ("localhost:8071", "https://"),
            ("ftp://example.com", "https://"),
            ("https://", "is not a URL"),
            ("https://a:b@example.com", "password"),
            ("https://example.com?a=b", "no `?`"),
        ] {
            let error = text.parse::<Server>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_is_one_visible_word_and_never_shown() {
        let token: Token = " testsk_abc\n".parse().unwrap();
        assert_eq!(token.authorization(), "Bearer testsk_abc");
        assert_eq!(format!("{token:?}"), "Token(…)");
        for wrong in ["", " \n", "a b", "a\nb", "ä"] {
            assert_eq!(wrong.parse::<Token>(), Err(BadToken), "{wrong:?}");
        }
    }
}
