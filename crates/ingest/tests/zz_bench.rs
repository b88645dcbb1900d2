#![allow(clippy::all, clippy::pedantic)]
mod support;
use support::Process;
#[tokio::test]
async fn bench() {
    let process = Process::start().await;
    let body = format!(r#"{{"eventType":"order.paid","orderingKey":"k","payload":{{"x":"{}"}}}}"#, "y".repeat(1000));
    for keyed in [false, true] {
        let t = std::time::Instant::now();
        let n = 50_000;
        for i in 0..n {
            let key = format!("auto_{i}");
            let headers: &[(&str,&str)] = if keyed { &[("idempotency-key", &key)] } else { &[] };
            let a = process.publish(body.clone(), headers).await;
            assert_eq!(a.status, 202);
        }
        eprintln!("keyed {keyed}: {:?} per publish", t.elapsed() / n);
    }
    let t = std::time::Instant::now();
    for _ in 0..50_000 { process.control.tokens().verify(&process.token, fanfare_core::Clock::now(&fanfare_core::SystemClock)).unwrap(); }
    eprintln!("verify {:?}", t.elapsed() / 50_000);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let process = Process::start().await;
    let rss = || std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096;
    let listener = fanfare_http::Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address();
    tokio::spawn(listener.serve(process.surface.clone(), tokio_util::sync::CancellationToken::new(), std::time::Duration::from_secs(1)));
    let before = rss();
    let n = 4000;
    let body = format!(r#"{{"eventType":"order.paid","orderingKey":"k","payload":{{"x":"{}"}}}}"#, "y".repeat(1000));
    let request = format!("POST /api/v1/app/shop/msg?with_content=false HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n{}", process.token, body.len(), body);
    let mut streams = Vec::new();
    for _ in 0..n {
        let mut s = tokio::net::TcpStream::connect(address).await.unwrap();
        s.write_all(request.as_bytes()).await.unwrap();
        let mut buf = [0; 1024];
        let k = s.read(&mut buf).await.unwrap();
        assert!(buf[..k].starts_with(b"HTTP/1.1 202"));
        streams.push(s);
    }
    eprintln!("rss per connection (with its 1 KB message): {}", (rss() - before) / n);
    let t = std::time::Instant::now();
    let mut tasks = Vec::new();
    for mut s in streams.drain(..32) {
        let request = request.clone();
        tasks.push(tokio::spawn(async move { let mut buf = [0; 1024]; for _ in 0..2000 { s.write_all(request.as_bytes()).await.unwrap(); s.read(&mut buf).await.unwrap(); } }));
    }
    for t in tasks { t.await.unwrap(); }
    eprintln!("over sockets: {} publishes/s, client in the same process", 64000.0 / t.elapsed().as_secs_f64());
}
