//! An endpoint as requests see it: parsed, checked and turned into headers once per revision.

use std::{collections::BTreeMap, fmt, time::Duration};

use ::http::{HeaderMap, Uri};
use fanfare_core::{EndpointNumber, signature::Signer};
use url::{Position, Url};

use super::{headers, pool::Kept};

/// What a target is made of.
#[derive(Debug)]
pub struct TargetSettings<'a> {
    pub number: EndpointNumber,
    pub revision: u64,
    pub url: &'a str,
    /// Sent with every request. Those that belong to the protocol or to the signature are left out.
    pub headers: &'a BTreeMap<String, String>,
    /// For the whole request.
    pub timeout: Duration,
    pub signer: Signer,
    /// Requests under way, and so connections open, at once.
    pub max_connections: usize,
}

/// Where and how one revision of an endpoint is sent to, with its idle connections.
pub struct Target {
    pub(super) number: EndpointNumber,
    revision: u64,
    pub(super) origin: Origin,
    pub(super) path_and_query: Uri,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
    pub(super) signer: Signer,
    pub(super) kept: Kept,
}

/// What is connected to.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) tls: bool,
    pub(super) host: url::Host,
    pub(super) port: u16,
}

/// Why nothing can be sent to an endpoint as it is set.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("the URL cannot be read: {0}")]
    Url(#[from] url::ParseError),
    #[error("the URL must begin with https:// or http://")]
    Scheme,
    #[error("the URL must not hold a user name or password")]
    Credentials,
    #[error("the URL's path cannot be sent: {0}")]
    Path(#[from] ::http::uri::InvalidUri),
    #[error("header `{name}` cannot be sent")]
    Header { name: String },
}

impl Target {
    pub fn new(settings: TargetSettings<'_>) -> Result<Self, TargetError> {
        let url = Url::parse(settings.url)?;
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(TargetError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        let host = url.host().ok_or(url::ParseError::EmptyHost)?.to_owned();
        let port = url.port_or_known_default().ok_or(TargetError::Scheme)?;
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        Ok(Self {
            number: settings.number,
            revision: settings.revision,
            origin: Origin { tls, host, port },
            path_and_query: url[Position::BeforePath..Position::AfterQuery].parse()?,
            headers: headers::of_endpoint(&authority, settings.headers)?,
            timeout: settings.timeout,
            signer: settings.signer,
            kept: Kept::new(settings.max_connections),
        })
    }

    pub fn number(&self) -> EndpointNumber {
        self.number
    }

    /// Of the endpoint, when this was made from it.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

/// Without path, headers and keys: they may hold secrets.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("number", &self.number)
            .field("revision", &self.revision)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}
