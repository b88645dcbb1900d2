//! Ports that stay free while a server is down: the kernel gives none of them to outgoing connections.

use std::{
    fs,
    net::TcpListener,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, ensure};

const FIRST: u16 = 12_000;
/// Where the kernel's own range begins if it does not say.
const EPHEMERAL: u16 = 32_768;
const TRIES: u32 = 1_000;
/// Ports that this process has tried. None is tried again soon: whose server is down now wants it back.
static TRIED: AtomicU32 = AtomicU32::new(0);

/// So many ports on which nobody listens. They are held until the returned listeners are dropped.
pub(crate) fn reserve(count: usize) -> Result<Vec<TcpListener>> {
    let end = first_ephemeral();
    let span = u32::from(end - FIRST);
    let mut reserved = Vec::with_capacity(count);
    for _ in 0..TRIES {
        if reserved.len() == count {
            break;
        }
        let place = start(span).wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % span;
        let port = FIRST + u16::try_from(place).expect("less than the span, which is less than 65,536");
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            reserved.push(listener);
        }
    }
    ensure!(reserved.len() == count, "no {count} free ports between {FIRST} and {end}");
    Ok(reserved)
}

/// Processes that look at the same moment begin at different places.
fn start(span: u32) -> u32 {
    std::process::id().wrapping_mul(97) % span
}

fn first_ephemeral() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_ascii_whitespace().next().and_then(|first| first.parse().ok());
    first.filter(|first| *first > FIRST + 1_000).unwrap_or(EPHEMERAL)
}
