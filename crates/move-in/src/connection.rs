//! One connection to a server: dialled, secured, kept.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::Host;

use crate::{limits, server::Server};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("{0}")]
    Connect(io::Error),
    #[error("TLS: {0}")]
    Tls(io::Error),
    #[error("no connection within {} s", limits::CONNECT.as_secs())]
    Unconnected,
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("no answer within {} s", limits::ANSWER.as_secs())]
    Silent,
    #[error("an answer is longer than {} bytes", limits::BODY_BYTES)]
    TooLong,
}

/// An answer, read to its end.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

pub(crate) struct Connection(http1::SendRequest<Full<Bytes>>);

/// TLS with the public certificate authorities, and with `extra` ones.
pub(crate) fn tls(extra: &[CertificateDer<'static>]) -> Result<TlsConnector, rustls::Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for root in extra {
        roots.add(root.clone())?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

impl Connection {
    pub(crate) async fn open(server: &Server, tls: &TlsConnector) -> Result<Self, Trouble> {
        within(limits::CONNECT, Trouble::Unconnected, dial(server, tls)).await
    }

    /// Sends `request` and reads its whole answer. After an error the connection is of no use.
    pub(crate) async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, Trouble> {
        let exchange = async {
            self.0.ready().await.map_err(Trouble::Broken)?;
            let (head, body) = self.0.send_request(request).await.map_err(Trouble::Broken)?.into_parts();
            Ok(Answer { status: head.status, headers: head.headers, body: read(body).await? })
        };
        within(limits::ANSWER, Trouble::Silent, exchange).await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

async fn within<T>(
    time: Duration,
    late: Trouble,
    what: impl Future<Output = Result<T, Trouble>>,
) -> Result<T, Trouble> {
    timeout(time, what).await.unwrap_or(Err(late))
}

async fn dial(server: &Server, tls: &TlsConnector) -> Result<Connection, Trouble> {
    let stream = match &server.host {
        Host::Domain(name) => TcpStream::connect((name.as_str(), server.port)).await,
        Host::Ipv4(address) => TcpStream::connect((*address, server.port)).await,
        Host::Ipv6(address) => TcpStream::connect((*address, server.port)).await,
    };
    let stream = stream.map_err(Trouble::Connect)?;
    stream.set_nodelay(true).map_err(Trouble::Connect)?;
    if !server.tls {
        return handshake(stream).await;
    }
    let name = match &server.host {
        Host::Domain(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|error| Trouble::Tls(io::Error::other(error)))?,
        Host::Ipv4(address) => ServerName::from(std::net::IpAddr::V4(*address)),
        Host::Ipv6(address) => ServerName::from(std::net::IpAddr::V6(*address)),
    };
    handshake(tls.connect(name, stream).await.map_err(Trouble::Tls)?).await
}

async fn handshake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<Connection, Trouble> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Trouble::Broken)?;
    // It ends when the sender is dropped, or with an error that the sender is told too.
    tokio::spawn(async move { drop(connection.await) });
    Ok(Connection(sender))
}

async fn read(mut body: Incoming) -> Result<Bytes, Trouble> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Trouble::Broken)?.into_data() else { continue };
        if whole.len() + data.len() > limits::BODY_BYTES {
            return Err(Trouble::TooLong);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}
