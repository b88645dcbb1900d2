//! How connections are kept, shared and closed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fanfare_core::{AttemptError, EndpointNumber};
use fanfare_delivery::send::{Http, Options, Target, TargetSettings, Transport as _};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    sync::{Semaphore, mpsc, watch},
};

use super::support::{OK, Receiver, http, options, read_request, request, settings, target};

fn numbered(number: u32, url: &str, max_connections: usize) -> Arc<Target> {
    let none = BTreeMap::new();
    let settings = TargetSettings { number: EndpointNumber(number), max_connections, ..settings(url, &none) };
    Arc::new(Target::new(settings).unwrap())
}

/// A receiver that tells when one of its connections is closed by us.
async fn telling() -> (Receiver, mpsc::UnboundedReceiver<usize>) {
    let (closed, closings) = mpsc::unbounded_channel();
    let receiver = Receiver::handling(move |stream, number| {
        let closed = closed.clone();
        async move {
            let mut stream = BufReader::new(stream);
            while read_request(&mut stream).await.is_some() {
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
            let _ = closed.send(number);
        }
    })
    .await;
    (receiver, closings)
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    for answer in [
        OK,
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let receiver = Receiver::answering(answer).await;
        let (http, target) = (http(), Arc::new(target(&receiver.url())));
        for _ in 0..20 {
            assert_ne!(http.send(request(Arc::clone(&target))).await.status, 0, "{answer}");
        }
        assert_eq!(receiver.accepted(), 1, "{answer}");
    }
}

#[tokio::test]
async fn a_connection_that_is_not_to_be_kept_is_not() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1, max=100\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let receiver = Receiver::answering(answer).await;
        let (http, target) = (http(), Arc::new(target(&receiver.url())));
        for _ in 0..3 {
            assert_eq!(http.send(request(Arc::clone(&target))).await.error, None, "{answer}");
        }
        assert_eq!(receiver.accepted(), 3, "{answer}");
    }
}

#[tokio::test]
async fn what_an_idle_connection_does_meanwhile_goes_unnoticed() {
    // Closing, and an answer to a request that was never made: it must not be taken for the next one's.
    for unasked in ["", OK] {
        let act = Arc::new(Semaphore::new(0));
        let told = Arc::clone(&act);
        let (acted, mut actions) = mpsc::unbounded_channel();
        let receiver = Receiver::handling(move |stream, number| {
            let (told, acted) = (Arc::clone(&told), acted.clone());
            async move {
                let mut stream = BufReader::new(stream);
                read_request(&mut stream).await.unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
                told.acquire().await.unwrap().forget();
                stream.write_all(unasked.as_bytes()).await.unwrap();
                if unasked.is_empty() {
                    drop(stream);
                    acted.send(number).unwrap();
                } else {
                    acted.send(number).unwrap();
                    assert!(read_request(&mut stream).await.is_none(), "nothing is sent on it");
                }
            }
        })
        .await;
        let (http, target) = (http(), Arc::new(target(&receiver.url())));
        for sent in 0..5 {
            let answer = http.send(request(Arc::clone(&target))).await;
            assert_eq!((answer.status, answer.error), (200, None));
            assert_eq!(receiver.accepted(), sent + 1);
            act.add_permits(1);
            assert_eq!(actions.recv().await, Some(sent));
            // The news reaches this process through its driver, which runs between tasks.
            for _ in 0..200 {
                tokio::task::yield_now().await;
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_was_written_is_not_repeated() {
    // The second request on the connection is read, and then the connection is closed without an answer.
    let (seen, mut requests) = mpsc::unbounded_channel();
    let receiver = Receiver::handling(move |stream, _| {
        let seen = seen.clone();
        async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
            read_request(&mut stream).await.unwrap();
            seen.send(()).unwrap();
        }
    })
    .await;
    let (http, target) = (http(), Arc::new(target(&receiver.url())));
    assert_eq!(http.send(request(Arc::clone(&target))).await.error, None);
    assert_eq!(http.send(request(Arc::clone(&target))).await.error, Some(AttemptError::Disconnected));
    requests.recv().await.unwrap();
    assert_eq!(receiver.accepted(), 1);
}

#[tokio::test]
async fn an_endpoint_has_no_more_connections_than_it_may() {
    let (open, gate) = watch::channel(false);
    let receiver = Receiver::handling(move |stream, _| {
        let mut gate = gate.clone();
        async move {
            let mut stream = BufReader::new(stream);
            while read_request(&mut stream).await.is_some() {
                gate.wait_for(|open| *open).await.unwrap();
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let (http, target) = (http(), numbered(1, &receiver.url(), 3));
    let sends = join_all((0..12).map(|_| http.send(request(Arc::clone(&target)))));
    let opens = async {
        while receiver.accepted() < 3 {
            tokio::task::yield_now().await;
        }
        open.send(true).unwrap();
    };
    let (answers, ()) = tokio::join!(sends, opens);
    assert!(answers.iter().all(|answer| answer.error.is_none()));
    assert_eq!(receiver.accepted(), 3);
}

#[tokio::test]
async fn the_least_recently_used_connection_makes_room() {
    let (receiver, mut closings) = telling().await;
    let http = Http::new(Options { connections: 2, ..options() }).unwrap();
    let targets: Vec<_> = (0..3).map(|number| numbered(number, &receiver.url(), 4)).collect();
    for (number, closed) in [(0, None), (1, None), (0, None), (2, Some(1)), (0, None), (1, Some(2))] {
        assert_eq!(http.send(request(Arc::clone(&targets[number]))).await.error, None);
        if let Some(closed) = closed {
            assert_eq!(closings.recv().await, Some(closed));
        }
    }
    assert_eq!(receiver.accepted(), 4);
    assert!(closings.try_recv().is_err());
}

#[tokio::test]
async fn a_request_waits_for_room_when_every_connection_is_busy() {
    let permits = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&permits);
    let receiver = Receiver::handling(move |stream, _| {
        let gate = Arc::clone(&gate);
        async move {
            let mut stream = BufReader::new(stream);
            while read_request(&mut stream).await.is_some() {
                gate.acquire().await.unwrap().forget();
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    })
    .await;
    let http = Arc::new(Http::new(Options { connections: 1, ..options() }).unwrap());
    let first = tokio::spawn({
        let (http, request) = (Arc::clone(&http), request(numbered(1, &receiver.url(), 4)));
        async move { http.send(request).await }
    });
    while receiver.accepted() < 1 {
        tokio::task::yield_now().await;
    }
    let second = tokio::spawn({
        let (http, request) = (Arc::clone(&http), request(numbered(2, &receiver.url(), 4)));
        async move { http.send(request).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(receiver.accepted(), 1);
    permits.add_permits(2);
    assert_eq!(first.await.unwrap().error, None);
    assert_eq!(second.await.unwrap().error, None);
    assert_eq!(receiver.accepted(), 2);
}

#[tokio::test]
async fn idle_connections_are_closed_in_time_or_when_told() {
    let (receiver, mut closings) = telling().await;
    let idle = Duration::from_millis(60);
    let http = Http::new(Options { connection_idle: idle, ..options() }).unwrap();
    let target = numbered(1, &receiver.url(), 4);
    assert_eq!(http.send(request(Arc::clone(&target))).await.error, None);
    assert_eq!(closings.recv().await, Some(0));

    let http = super::support::http();
    assert_eq!(http.send(request(numbered(2, &receiver.url(), 4))).await.error, None);
    assert_eq!(closings.recv().await, Some(1), "it goes with its target");

    let target = numbered(3, &receiver.url(), 4);
    assert_eq!(http.send(request(Arc::clone(&target))).await.error, None);
    http.forget(EndpointNumber(4));
    http.forget(EndpointNumber(3));
    assert_eq!(closings.recv().await, Some(2));

    // A new revision of an endpoint takes the place of the former one.
    let (former, new) = (numbered(5, &receiver.url(), 4), numbered(5, &receiver.url(), 4));
    assert_eq!(http.send(request(Arc::clone(&former))).await.error, None);
    assert_eq!(http.send(request(Arc::clone(&new))).await.error, None);
    assert_eq!(closings.recv().await, Some(3));
}

#[tokio::test]
async fn a_send_that_is_dropped_closes_its_connection() {
    let (event, mut events) = mpsc::unbounded_channel();
    let receiver = Receiver::handling(move |stream, _| {
        let event = event.clone();
        async move {
            let mut stream = BufReader::new(stream);
            read_request(&mut stream).await.unwrap();
            event.send("request").unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
            event.send("closed").unwrap();
        }
    })
    .await;
    let http = Arc::new(http());
    let request = request(target(&receiver.url()));
    let sending = tokio::spawn(async move { http.send(request).await });
    assert_eq!(events.recv().await, Some("request"));
    sending.abort();
    assert_eq!(events.recv().await, Some("closed"));
}
