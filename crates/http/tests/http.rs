//! The listener and what stands around the routes, over real sockets on the loopback.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::body::Body;
use fanfare_http::{ApiError, FieldError, Listener, Memory, Page, Probes, Routes, Surface, read_body};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const LOOPBACK: &str = "127.0.0.1:0";
const SOON: Duration = Duration::from_secs(10);

fn probes(ready: &Arc<AtomicBool>) -> Probes {
    let ready = Arc::clone(ready);
    Probes {
        ready: Arc::new(move || if ready.load(Ordering::Relaxed) { Ok(()) } else { Err("starting".into()) }),
        metrics: Arc::new(|| "fanfare_up 1\n".into()),
    }
}

fn surface(routes: Routes) -> Surface {
    Surface::new(routes, probes(&Arc::new(AtomicBool::new(true))))
}

async fn answer(surface: &Surface, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    surface.answer(request.body(Body::empty()).unwrap()).await
}

async fn json_of(response: Response<Body>) -> Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn serve(routes: Routes, connections: usize, drain: Duration) -> Server {
    let listener = Listener::bind(LOOPBACK.parse().unwrap()).unwrap().with_connections(connections);
    let (address, stop) = (listener.address(), CancellationToken::new());
    let task = tokio::spawn(listener.serve(surface(routes), stop.clone(), drain));
    Server { address, stop, task }
}

/// Sends a request on a fresh connection and reads until the server closes it.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

const GET_LIVEZ: &str = "GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn errors_have_one_shape() {
    let surface = surface(Routes::new().anyone(Method::GET, "/api/v1/app", async || ""));
    let response = answer(&surface, Method::GET, "/api/v1/nothing", &[]).await;
    assert_eq!(response.status(), 404);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = json_of(response).await;
    assert_eq!(body["code"], "not_found");
    assert_eq!((&body["status"], &body["title"]), (&json!(404), &json!("Not Found")));
    assert!(body["type"].is_string() && body["detail"].as_str().unwrap().contains("/api/v1/nothing"));

    let response = answer(&surface, Method::DELETE, "/api/v1/app", &[]).await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert_eq!(json_of(response).await["code"], "method_not_allowed");
}

#[tokio::test]
async fn a_422_is_a_list_unless_problem_json_is_asked_for() {
    let wrong = async || ApiError::invalid(vec![FieldError::body(["a", "0"], "must be 1")]);
    let surface = surface(Routes::new().anyone(Method::GET, "/wrong", wrong));
    let response = answer(&surface, Method::GET, "/wrong", &[]).await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let body = json_of(response).await;
    let list = json!([{"loc": ["body", "a", "0"], "msg": "must be 1", "type": "value_error"}]);
    assert_eq!((&body["detail"], &body["code"]), (&list, &json!("validation_error")));

    let accept = [("accept", "application/problem+json, */*")];
    let response = answer(&surface, Method::GET, "/wrong", &accept).await;
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let body = json_of(response).await;
    assert_eq!((&body["errors"], &body["detail"]), (&list, &json!("body.a.0: must be 1")));
    assert_eq!(body["status"], 422);
}

#[tokio::test]
async fn slashes_cors_and_panics() {
    let routes = Routes::new().anyone(Method::GET, "/a", async || "found").anyone(
        Method::GET,
        "/panic",
        async || -> StatusCode { panic!("planted") },
    );
    let surface = surface(routes);
    for path in ["/a", "/a/", "/a//", "/a/?b=c/"] {
        let response = answer(&surface, Method::GET, path, &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
    }
    let asked = [("access-control-request-method", "PUT"), ("access-control-request-headers", "x-a")];
    let response = answer(&surface, Method::OPTIONS, "/a", &asked).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["access-control-allow-headers"]),
        (204, &"x-a".parse().unwrap())
    );
    let response = answer(&surface, Method::GET, "/panic", &[]).await;
    assert_eq!(response.status(), 500);
    assert_eq!(json_of(response).await["code"], "server_error");
}

#[tokio::test]
async fn health_says_what_is() {
    let ready = Arc::new(AtomicBool::new(true));
    let surface = Surface::new(Routes::new(), probes(&ready));
    for (path, before, after) in [
        ("/livez", 200, 200),
        ("/readyz", 200, 503),
        ("/api/v1/health", 200, 500),
        ("/api/v1/health/ping", 204, 204),
        ("/metrics", 200, 200),
    ] {
        ready.store(true, Ordering::Relaxed);
        for method in [Method::GET, Method::HEAD] {
            assert_eq!(answer(&surface, method, path, &[]).await.status(), before, "{path}");
        }
        ready.store(false, Ordering::Relaxed);
        assert_eq!(answer(&surface, Method::GET, path, &[]).await.status(), after, "{path}");
    }
}

#[tokio::test]
async fn who_starts_is_alive_and_not_ready() {
    let ready = Arc::new(AtomicBool::new(true));
    let surface = Surface::starting(&probes(&ready).metrics);
    let statuses = async || {
        let mut statuses = Vec::new();
        for path in ["/livez", "/readyz", "/api/v1/health", "/metrics", "/a"] {
            statuses.push(answer(&surface, Method::GET, path, &[]).await.status().as_u16());
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 503, 500, 200, 503]);
    let refused = answer(&surface, Method::GET, "/a", &[]).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(json_of(refused).await["code"], "not_ready");
    surface.begin(Routes::new().anyone(Method::GET, "/a", async || "found"), probes(&ready));
    assert_eq!(statuses().await, [200, 200, 200, 200, 200]);
}

#[tokio::test]
async fn queries_are_checked() {
    let surface = surface(Routes::new().anyone(Method::GET, "/a", async |page: Page| page.limit.to_string()));
    for (query, status, names) in [
        ("limit=250", 200, "250"),
        ("", 200, "50"),
        ("limit=251", 422, "1 to 250"),
        ("limit=0", 422, "limit"),
        ("limit=x", 400, "limit"),
        ("order=sideways", 400, "order"),
        ("order=ascending&iterator=", 200, "50"),
    ] {
        let response = answer(&surface, Method::GET, &format!("/a?{query}"), &[]).await;
        assert_eq!(response.status(), status, "{query}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(names), "{query}: {body:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bodies_share_the_memory() {
    let memory = Memory::new(4 << 10, Duration::from_secs(2));
    let first = read_body(Body::from(vec![0; 2 << 10]), 1 << 20, &memory).await.unwrap();
    let refused = read_body(Body::from(vec![0; 2 << 10]), 1 << 20, &memory).await.unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (503, "overloaded"));
    drop(first);
    assert_eq!(read_body(Body::from(vec![0; 2 << 10]), 1 << 20, &memory).await.unwrap().bytes.len(), 2 << 10);
    let refused = read_body(Body::from(vec![0; 11]), 10, &memory).await.unwrap_err();
    assert_eq!((refused.status().as_u16(), refused.code()), (413, "payload_too_large"));
}

/// A sender that stops in the middle of its body gives its memory back.
#[tokio::test(start_paused = true)]
async fn a_slow_body_times_out() {
    let memory = Memory::default();
    let routes = Routes::new().anyone(Method::POST, "/a", async move |body: Body| {
        read_body(body, 100, &memory).await.map(|body| body.bytes.len().to_string())
    });
    let server = serve(routes, 8, SOON);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test(start_paused = true)]
async fn slow_headers_end_the_connection() {
    let server = serve(Routes::new(), 8, SOON);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    assert!(!rest.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let first = Listener::bind(LOOPBACK.parse().unwrap()).unwrap();
    let error = Listener::bind(first.address()).unwrap_err().to_string();
    assert!(error.contains(&first.address().to_string()) && error.contains("in use"), "{error}");
    assert!(!error.contains('\n'));
}

/// More connections than there is room for wait, and are served when one ends.
#[tokio::test]
async fn connections_are_capped() {
    let server = serve(Routes::new(), 1, SOON);
    let held = TcpStream::connect(server.address).await.unwrap();
    let mut waiting = tokio::spawn(exchange(server.address, GET_LIVEZ));
    assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    drop(held);
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 200"));
}

/// A stop finishes what is in flight, takes nothing new, and ends.
#[tokio::test]
async fn a_stop_drains() {
    let (entered, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let routes = Routes::new().anyone(Method::GET, "/slow", {
        let (entered, go_on) = (Arc::clone(&entered), Arc::clone(&go_on));
        async move || {
            entered.notify_one();
            go_on.notified().await;
            "done"
        }
    });
    let server = serve(routes, 8, SOON);
    let _idle = TcpStream::connect(server.address).await.unwrap();
    let slow = tokio::spawn(exchange(server.address, "GET /slow HTTP/1.1\r\nhost: a\r\n\r\n"));
    entered.notified().await;
    server.stop.cancel();
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, refused).await.expect("still listening");
    go_on.notify_one();
    assert!(slow.await.unwrap().ends_with("done"));
    timeout(SOON, server.task).await.unwrap().unwrap();
}

/// What does not end within the drain is cut off.
#[tokio::test]
async fn a_drain_is_bounded() {
    let entered = Arc::new(Notify::new());
    let routes = Routes::new().anyone(Method::GET, "/never", {
        let entered = Arc::clone(&entered);
        async move || {
            entered.notify_one();
            std::future::pending::<()>().await;
        }
    });
    let server = serve(routes, 8, Duration::from_millis(50));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /never HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    entered.notified().await;
    server.stop.cancel();
    timeout(SOON, server.task).await.unwrap().unwrap();
}
