//! The way from the broker to one receiver. It passes on what comes, remembers it for the view, and plants the
//! fault that was asked for. It judges nothing: that is the receivers' part.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use anyhow::Context as _;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode, Uri},
    serve::ListenerExt as _,
};
use fanfare_loadtest::{client::Connection, payload, sequence::SequenceSet};
use http_body_util::Full;
use tokio::{net::TcpListener, task::JoinHandle};

use super::Fault;

/// Arrivals kept for the view.
const RECENT: usize = 16;

pub(crate) struct Wire {
    pub(crate) name: &'static str,
    pub(crate) url: String,
    way: Arc<Way>,
    serving: JoinHandle<()>,
}

struct Way {
    name: &'static str,
    receiver: SocketAddr,
    path: Uri,
    connection: tokio::sync::Mutex<Option<Connection>>,
    traffic: Mutex<Traffic>,
    plant: Mutex<Option<Plant>>,
}

/// What passed so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) arrivals: u64,
    /// Orders that were answered 2xx.
    pub(crate) taken: SequenceSet,
    /// Latest last, marked: `17!` was not answered 2xx, `17+` had been taken before.
    pub(crate) recent: VecDeque<String>,
}

/// A fault to be planted once, at the first order from here on.
#[derive(Clone, Debug)]
struct Plant {
    fault: Fault,
    from: u64,
    state: Planting,
}

#[derive(Clone, Debug)]
enum Planting {
    Waiting,
    /// Of a swap: the delivery that lets another one pass first.
    Holding {
        order: u64,
        delivery: Delivery,
    },
    Done(String),
}

/// A request as the broker sent it.
#[derive(Clone, Debug)]
struct Delivery {
    headers: HeaderMap,
    body: Bytes,
}

/// What to do with a request.
enum Passage {
    Pass(Delivery),
    /// Answers 200 and passes nothing on, now or ever.
    Swallow,
    PassThen(Delivery, Delivery),
}

impl Wire {
    /// Listens on a port of its own for what goes to `path` of `receiver`. `fault`: what to plant, and from which
    /// order on.
    pub(crate) async fn lay(
        name: &'static str,
        receiver: SocketAddr,
        path: &str,
        fault: Option<(Fault, u64)>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no free port")?;
        let url = format!("http://{}/{name}", listener.local_addr()?);
        let way = Arc::new(Way {
            name,
            receiver,
            path: path.parse()?,
            connection: tokio::sync::Mutex::default(),
            traffic: Mutex::default(),
            plant: Mutex::new(fault.map(|(fault, from)| Plant { fault, from, state: Planting::Waiting })),
        });
        let app = Router::new().fallback(pass).with_state(Arc::clone(&way));
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let serving = tokio::spawn(async move { drop(axum::serve(listener, app).await) });
        Ok(Self { name, url, way, serving })
    }

    pub(crate) fn traffic(&self) -> Traffic {
        lock(&self.way.traffic).clone()
    }

    /// What was planted, in words, once it was.
    pub(crate) fn planted(&self) -> Option<String> {
        match &lock(&self.way.plant).as_ref()?.state {
            Planting::Done(words) => Some(words.clone()),
            Planting::Waiting | Planting::Holding { .. } => None,
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(State(way): State<Arc<Way>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let order = payload::read(&body).ok().map(|stamp| stamp.seq);
    let passage = way.tamper(order, Delivery { headers, body });
    let status = match passage {
        Passage::Swallow => StatusCode::OK,
        Passage::Pass(delivery) => way.forward(delivery).await,
        Passage::PassThen(first, second) => {
            let status = way.forward(first).await;
            way.forward(second).await;
            status
        }
    };
    way.note(order, status);
    status
}

impl Way {
    fn tamper(&self, order: Option<u64>, delivery: Delivery) -> Passage {
        let mut plant = lock(&self.plant);
        let (Some(plant), Some(order)) = (plant.as_mut(), order) else { return Passage::Pass(delivery) };
        let name = self.name;
        match std::mem::replace(&mut plant.state, Planting::Waiting) {
            Planting::Waiting if order < plant.from => Passage::Pass(delivery),
            Planting::Waiting => match plant.fault {
                Fault::Drop => {
                    let words = format!("order {order} was swallowed on its way to {name} and answered 200");
                    plant.state = Planting::Done(words);
                    Passage::Swallow
                }
                Fault::Forge => {
                    let words = format!("one byte of order {order} was altered on its way to {name}");
                    plant.state = Planting::Done(words);
                    Passage::Pass(Delivery { body: altered(&delivery.body), ..delivery })
                }
                Fault::Swap => {
                    plant.state = Planting::Holding { order, delivery };
                    Passage::Swallow
                }
            },
            Planting::Holding { order: held, delivery } if held == order => {
                plant.state = Planting::Holding { order, delivery };
                Passage::Swallow
            }
            Planting::Holding { order: held, delivery: first } => {
                let words = format!("orders {held} and {order} changed places on their way to {name}");
                plant.state = Planting::Done(words);
                Passage::PassThen(delivery, first)
            }
            done @ Planting::Done(_) => {
                plant.state = done;
                Passage::Pass(delivery)
            }
        }
    }

    /// Passes a delivery on and gives the receiver's answer.
    async fn forward(&self, delivery: Delivery) -> StatusCode {
        let mut request = Request::new(Full::new(delivery.body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = delivery.headers;
        let mut kept = self.connection.lock().await;
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(self.receiver).await {
                Ok(connection) => connection,
                Err(_) => return StatusCode::BAD_GATEWAY,
            },
        };
        match connection.exchange(request).await {
            Ok(answer) => {
                // Not kept after a failure, nor when the broker goes away in the middle.
                *kept = Some(connection);
                answer.status
            }
            Err(_) => StatusCode::BAD_GATEWAY,
        }
    }

    fn note(&self, order: Option<u64>, status: StatusCode) {
        let mut traffic = lock(&self.traffic);
        traffic.arrivals += 1;
        let mark = match order {
            None => "?".to_owned(),
            Some(order) if !status.is_success() => format!("{order}!"),
            Some(order) if traffic.taken.insert(order) => order.to_string(),
            Some(order) => format!("{order}+"),
        };
        if traffic.recent.len() == RECENT {
            traffic.recent.pop_front();
        }
        traffic.recent.push_back(mark);
    }
}

/// The same but for one bit of the last letter.
fn altered(body: &Bytes) -> Bytes {
    let mut bytes = body.to_vec();
    let last = bytes.iter_mut().rev().find(|byte| byte.is_ascii_alphanumeric());
    if let Some(byte) = last {
        *byte ^= 1;
    }
    bytes.into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(fault: Fault) -> Way {
        Way {
            name: "healthy",
            receiver: (Ipv4Addr::LOCALHOST, 9).into(),
            path: Uri::from_static("/e/0"),
            connection: tokio::sync::Mutex::default(),
            traffic: Mutex::default(),
            plant: Mutex::new(Some(Plant { fault, from: 5, state: Planting::Waiting })),
        }
    }

    /// The bodies passed on for orders sent one after the other; a body is its order's number.
    fn passed(way: &Way, orders: &[u64]) -> Vec<String> {
        let mut passed = Vec::new();
        for order in orders {
            let delivery = Delivery { headers: HeaderMap::new(), body: order.to_string().into() };
            let through = match way.tamper(Some(*order), delivery) {
                Passage::Pass(delivery) => vec![delivery],
                Passage::PassThen(first, second) => vec![first, second],
                Passage::Swallow => Vec::new(),
            };
            passed.extend(through.iter().map(|it| String::from_utf8_lossy(&it.body).into_owned()));
        }
        passed
    }

    #[test]
    fn each_fault_is_planted_once() {
        assert_eq!(passed(&way(Fault::Drop), &[4, 5, 6, 7]), ["4", "6", "7"]);
        assert_eq!(passed(&way(Fault::Swap), &[4, 5, 5, 6, 7]), ["4", "6", "5", "7"]);
        assert_eq!(passed(&way(Fault::Forge), &[4, 5, 5, 6]), ["4", "4", "5", "6"]);
    }

    #[test]
    fn the_view_tells_what_was_refused_and_what_came_again() {
        let way = way(Fault::Drop);
        for (order, status) in [(1, 200), (2, 500), (2, 200), (2, 200)] {
            way.note(Some(order), StatusCode::from_u16(status).expect("a status"));
        }
        assert_eq!(way.traffic.lock().expect("not poisoned").recent, ["1", "2!", "2", "2+"]);
    }
}
