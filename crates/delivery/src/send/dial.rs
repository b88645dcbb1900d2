//! From an origin to an open stream: resolve, check, connect, TLS.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use fanfare_core::{AttemptError, guard::Guard, limits};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::Host;

use super::{connection::Stream, resolve::Resolver, target::Origin};

/// Addresses of one name that are tried, one after the other.
const ADDRESSES: usize = 4;

pub(super) struct Dialer {
    guard: Guard,
    allow_http: bool,
    resolver: Resolver,
    tls: TlsConnector,
}

impl Dialer {
    pub(super) fn new(
        guard: Guard,
        allow_http: bool,
        resolver: Resolver,
        extra_roots: Vec<CertificateDer<'static>>,
    ) -> Result<Self, rustls::Error> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in extra_roots {
            roots.add(root)?;
        }
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { guard, allow_http, resolver, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// A stream to `origin`, until `deadline`. What is not there by then fails as the step that took so long.
    pub(super) async fn dial(&self, origin: &Origin, deadline: Instant) -> Result<Stream, AttemptError> {
        if !origin.tls && !self.allow_http {
            return Err(AttemptError::AddressRefused);
        }
        let addresses = self.addresses(&origin.host, deadline).await?;
        let stream = connect(&addresses, origin.port, deadline).await?;
        if origin.tls { self.secure(stream, &origin.host, deadline).await } else { Ok(Stream::Plain(stream)) }
    }

    async fn addresses(&self, host: &Host, deadline: Instant) -> Result<Vec<IpAddr>, AttemptError> {
        let mut addresses = match host {
            Host::Ipv4(address) => vec![IpAddr::V4(*address)],
            Host::Ipv6(address) => vec![IpAddr::V6(*address)],
            Host::Domain(name) => {
                timeout_at(deadline, self.resolver.addresses(name)).await.map_err(|_| AttemptError::Dns)?
            }
        };
        if addresses.is_empty() {
            return Err(AttemptError::Dns);
        }
        addresses.retain(|address| self.guard.allows(*address));
        if addresses.is_empty() {
            return Err(AttemptError::AddressRefused);
        }
        addresses.truncate(ADDRESSES);
        Ok(addresses)
    }

    async fn secure(
        &self,
        stream: TcpStream,
        host: &Host,
        deadline: Instant,
    ) -> Result<Stream, AttemptError> {
        let name = match host {
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
            Host::Domain(name) => {
                ServerName::try_from(name.trim_end_matches('.').to_owned()).map_err(|_| AttemptError::Tls)?
            }
        };
        match timeout_at(deadline, self.tls.connect(name, stream)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                Err(AttemptError::Tls)
            }
            Err(_) => Err(AttemptError::Tls),
        }
    }
}

/// Its receive buffer is small from the start: an endless answer is stopped at its sender, instead of filling megabytes
/// of the kernel that nobody will read.
fn socket(address: IpAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_recv_buffer_size(limits::RECEIVE_BUFFER_BYTES)?;
    Ok(socket)
}

/// Connects to the first address that takes us. One that stays silent leaves the others their share of the time.
async fn connect(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, AttemptError> {
    for (tried, address) in addresses.iter().enumerate() {
        let left = u32::try_from(addresses.len() - tried).expect("few addresses");
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / left;
        let Ok(socket) = socket(*address) else { continue };
        let connecting = socket.connect(SocketAddr::new(*address, port));
        if let Ok(Ok(stream)) = timeout_at(until, connecting).await {
            // Head and payload go out in one write, the next message at once.
            stream.set_nodelay(true).map_err(|_| AttemptError::Connect)?;
            return Ok(stream);
        }
    }
    Err(AttemptError::Connect)
}
