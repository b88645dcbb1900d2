//! TLS against a certificate made for the test.

use std::sync::Arc;

use fanfare_core::AttemptError;
use fanfare_delivery::send::{Http, Options, Transport as _};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tokio_rustls::TlsAcceptor;

use super::support::{OK, Receiver, answer_all, impatient, options, request, target};

/// A receiver with a certificate for `name`, and options that trust it.
async fn receiver(name: &str) -> (Receiver, Options) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let receiver = Receiver::handling(move |stream, _| {
        let acceptor = acceptor.clone();
        async move {
            let (seen, _requests) = tokio::sync::mpsc::unbounded_channel();
            if let Ok(stream) = acceptor.accept(stream).await {
                answer_all(stream, OK, &seen).await;
            }
        }
    })
    .await;
    let trusting = Options { extra_roots: vec![cert.der().clone()], allow_http: false, ..options() };
    (receiver, trusting)
}

#[tokio::test]
async fn a_trusted_certificate_for_the_name_is_taken_and_the_connection_kept() {
    let (receiver, trusting) = receiver("localhost").await;
    let http = Http::new(trusting).unwrap();
    let target = Arc::new(target(&format!("https://localhost:{}/a", receiver.address().port())));
    for _ in 0..3 {
        let answer = http.send(request(Arc::clone(&target))).await;
        assert_eq!((answer.status, answer.error, &answer.body[..]), (200, None, &b"ok"[..]));
    }
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn another_name_or_an_unknown_issuer_is_refused() {
    let (receiver, trusting) = receiver("hooks.example").await;
    let url = format!("https://localhost:{}/", receiver.address().port());
    let answer = Http::new(trusting).unwrap().send(request(target(&url))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Tls)));

    let (receiver, _) = self::receiver("localhost").await;
    let url = format!("https://localhost:{}/", receiver.address().port());
    let answer = Http::new(options()).unwrap().send(request(target(&url))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Tls)));
}

#[tokio::test]
async fn a_peer_that_does_not_speak_tls() {
    let plain = Receiver::answering(OK).await;
    let url = format!("https://127.0.0.1:{}/", plain.address().port());
    let answer = Http::new(options()).unwrap().send(request(impatient(&url))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Tls)));

    // Connections wait in the backlog: the handshake never gets an answer.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let answer = Http::new(options()).unwrap().send(request(impatient(&url))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Tls)));
    let (mut stream, _) = silent.accept().await.unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).await.is_ok(), "and was closed");
}
