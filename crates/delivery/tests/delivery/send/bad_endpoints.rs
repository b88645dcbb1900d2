//! Endpoints that misbehave: each costs itself, and little.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fanfare_core::{AttemptError, limits};
use fanfare_delivery::send::{Answer, Transport as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    time::timeout,
};

use super::support::{OK, Receiver, TIMEOUT, http, impatient, read_request, request, target};

/// Reads a request, then writes `piece` until the connection breaks; counts what went out.
async fn endless(head: &'static str, piece: &'static [u8], pause: Duration) -> (Receiver, Arc<AtomicUsize>) {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let receiver = Receiver::handling(move |stream, _| {
        let count = Arc::clone(&count);
        async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await.unwrap();
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(piece).await.is_ok() {
                count.fetch_add(piece.len(), Ordering::SeqCst);
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        }
    })
    .await;
    (receiver, written)
}

/// Sends to a receiver that answers the first request with `answer` and closes.
async fn answered_once(answer: &'static [u8]) -> Answer {
    let receiver = Receiver::handling(move |stream, _| async move {
        let mut stream = BufReader::new(stream);
        read_request(&mut stream).await.unwrap();
        let _ = stream.write_all(answer).await;
    })
    .await;
    http().send(request(target(&receiver.url()))).await
}

#[tokio::test]
async fn refusing_connections() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let answer = http().send(request(target(&url))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Connect)));
}

#[tokio::test]
async fn a_name_that_does_not_exist() {
    let answer = http().send(request(impatient("http://no-such-name.invalid/"))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Dns)));
}

#[tokio::test]
async fn closing_at_once_or_before_the_answer() {
    let receiver = Receiver::handling(|stream, _| async move { drop(stream) }).await;
    let answer = http().send(request(target(&receiver.url()))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Disconnected)));
    assert_eq!(answered_once(b"").await.error, Some(AttemptError::Disconnected));
    assert_eq!(answered_once(b"HTTP/1.1 20").await.error, Some(AttemptError::Disconnected));
}

#[tokio::test]
async fn breaking_off_inside_the_body() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let answer = answered_once(answer).await;
        assert_eq!((answer.status, answer.error), (200, Some(AttemptError::Disconnected)));
        assert_eq!(answer.body, "half");
    }
    let refused = answered_once(b"HTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 10\r\n\r\nhalf").await;
    assert_eq!((refused.status, refused.error), (429, Some(AttemptError::Status)));
    assert_eq!(refused.retry_after, Some(Duration::from_secs(7)));
    // Without a length the end of the connection is the end of the body.
    let answer = answered_once(b"HTTP/1.1 200 OK\r\n\r\nwhole").await;
    assert_eq!((answer.error, &answer.body[..]), (None, &b"whole"[..]));
}

#[tokio::test]
async fn never_answering() {
    let receiver = Receiver::handling(|mut stream, _| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let answer = http().send(request(impatient(&receiver.url()))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Timeout)));
    assert!(answer.duration >= TIMEOUT && answer.duration < TIMEOUT * 10);
}

#[tokio::test]
async fn trickling() {
    let pause = Duration::from_millis(20);
    let (head, _) = endless("HTTP/1.1 200 OK\r\nX: ", b"x", pause).await;
    let answer = http().send(request(impatient(&head.url()))).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::Timeout)));

    let (body, _) = endless("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", pause).await;
    let answer = http().send(request(impatient(&body.url()))).await;
    assert_eq!((answer.status, answer.error), (200, Some(AttemptError::Timeout)));
    assert!(answer.body.starts_with(b"x"));
    assert!(answer.duration < TIMEOUT * 10);

    let (refusal, _) = endless("HTTP/1.1 503 X\r\nContent-Length: 9999\r\n\r\n", b"x", pause).await;
    let answer = http().send(request(impatient(&refusal.url()))).await;
    assert_eq!((answer.status, answer.error), (503, Some(AttemptError::Status)));
}

#[tokio::test]
async fn streaming_without_end() {
    const PIECE: &[u8] = &[b'x'; 64 << 10];
    const TINY: &[u8] = b"1\r\nx\r\n";
    for (head, piece, status, error) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n", PIECE, 200, None),
        ("HTTP/1.1 200 OK\r\n\r\n", PIECE, 200, None),
        ("HTTP/1.1 500 X\r\n\r\n", PIECE, 500, Some(AttemptError::Status)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", TINY, 200, None),
        ("HTTP/1.1 200 OK\r\nX: ", PIECE, 0, Some(AttemptError::BadAnswer)),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n", 0, Some(AttemptError::BadAnswer)),
    ] {
        let (receiver, written) = endless(head, piece, Duration::ZERO).await;
        let answer = http().send(request(target(&receiver.url()))).await;
        assert_eq!((answer.status, answer.error), (status, error), "{head}");
        assert!(answer.body.len() <= limits::RESPONSE_KEPT_BYTES);
        // What was taken from it, and what the kernel holds in between.
        assert!(written.load(Ordering::SeqCst) < 16 << 20, "{head}");
    }
}

#[tokio::test]
async fn two_thousand_informational_answers() {
    let answer = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(2_000) + OK;
    let answer = answered_once(answer.leak().as_bytes()).await;
    assert_eq!((answer.status, answer.error), (0, Some(AttemptError::BadAnswer)));
}

#[tokio::test]
async fn garbage() {
    let cases: [&'static [u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"<html>hello</html>\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\na b c\r\n\r\n",
    ];
    for bytes in cases {
        let answer = answered_once(bytes).await;
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!((answer.status, answer.error), (0, Some(AttemptError::BadAnswer)), "{shown}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = elsewhere.local_addr().unwrap();
    for status in [301, 302, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Moved\r\nLocation: http://{location}/\r\nRefresh: 0;url=http://{location}/\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let receiver = Receiver::answering(answer.leak()).await;
        let answer = http().send(request(target(&receiver.url()))).await;
        assert_eq!((answer.status, answer.error), (status, Some(AttemptError::Status)));
        assert_eq!(receiver.accepted(), 1);
    }
    let contacted = timeout(Duration::from_millis(50), elsewhere.accept()).await;
    assert!(contacted.is_err(), "nothing else is contacted");
}

#[tokio::test]
async fn a_large_payload_to_a_receiver_that_does_not_read() {
    let receiver = Receiver::handling(|stream, _| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let mut large = request(impatient(&receiver.url()));
    large.payload = vec![b'x'; 32 << 20].into();
    assert_eq!(http().send(large).await.error, Some(AttemptError::Timeout));
}
