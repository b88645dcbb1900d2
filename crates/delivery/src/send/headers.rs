//! The headers of a request, after the Standard Webhooks specification.

use std::{collections::BTreeMap, fmt::Write as _};

use ::http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CONTENT_TYPE, HOST, USER_AGENT},
    request,
};
use bytes::Bytes;
use http_body_util::Full;

use super::{Request, TargetError};

pub(super) type Message = request::Request<Full<Bytes>>;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const AGENT: &str = concat!("Fanfare-Webhooks/", env!("CARGO_PKG_VERSION"));

/// Headers that belong to the protocol or to us, whatever an endpoint's settings say.
const RESERVED: [&str; 14] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// The three headers by which a receiver verifies a message, under one prefix.
#[derive(Clone, Debug)]
pub struct HeaderPrefix {
    id: HeaderName,
    timestamp: HeaderName,
    signature: HeaderName,
}

impl HeaderPrefix {
    /// As the specification has it.
    pub const WEBHOOK: Self = Self {
        id: HeaderName::from_static("webhook-id"),
        timestamp: HeaderName::from_static("webhook-timestamp"),
        signature: HeaderName::from_static("webhook-signature"),
    };
    /// As receivers written for Svix expect them.
    pub const SVIX: Self = Self {
        id: HeaderName::from_static("svix-id"),
        timestamp: HeaderName::from_static("svix-timestamp"),
        signature: HeaderName::from_static("svix-signature"),
    };

    /// A prefix of one's own; `None` if it cannot stand in a header's name.
    pub fn custom(prefix: &str) -> Option<Self> {
        let name = |suffix| format!("{prefix}-{suffix}").parse().ok();
        Some(Self { id: name("id")?, timestamp: name("timestamp")?, signature: name("signature")? })
    }
}

/// What is the same in all requests to an endpoint. `host` goes first, as receivers expect it.
pub(super) fn of_endpoint(
    authority: &str,
    custom: &BTreeMap<String, String>,
) -> Result<HeaderMap, TargetError> {
    let unsendable = |name: &str| TargetError::Header { name: name.to_owned() };
    let mut headers = HeaderMap::with_capacity(8 + custom.len());
    headers.insert(HOST, HeaderValue::from_str(authority).map_err(|_| unsendable("host"))?);
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in custom {
        let key: HeaderName = name.parse().map_err(|_| unsendable(name))?;
        if RESERVED.contains(&key.as_str()) {
            continue;
        }
        headers.insert(key, HeaderValue::from_str(value).map_err(|_| unsendable(name))?);
    }
    Ok(headers)
}

/// The signed request. An endpoint's own header never stands in place of one that verifies.
pub(super) fn message(request: &Request, prefixes: &[HeaderPrefix]) -> Message {
    let target = &*request.target;
    let seconds = request.at.as_secs();
    let mut id = String::with_capacity(32);
    write!(id, "{}", request.id).expect("writing to a string");
    let signature = value(target.signer.signature_header(&id, seconds, &request.payload));
    let id = value(id);
    let timestamp = HeaderValue::from(seconds);

    let mut headers = HeaderMap::with_capacity(target.headers.len() + 3 * prefixes.len() + 2);
    for (name, value) in &target.headers {
        headers.append(name.clone(), value.clone());
    }
    for prefix in prefixes {
        headers.insert(prefix.id.clone(), id.clone());
        headers.insert(prefix.timestamp.clone(), timestamp.clone());
        headers.insert(prefix.signature.clone(), signature.clone());
    }
    if let Some(traceparent) = &request.traceparent {
        headers.insert(TRACEPARENT, traceparent.clone());
    }

    let mut message = Message::new(Full::new(request.payload.clone()));
    *message.method_mut() = Method::POST;
    *message.uri_mut() = target.path_and_query.clone();
    *message.headers_mut() = headers;
    message
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids and signatures are printable ASCII")
}
