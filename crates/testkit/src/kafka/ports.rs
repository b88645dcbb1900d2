//! Ports that stay free while a broker is down: the kernel gives none of them to outgoing connections.

use std::{fs, net::TcpListener};

use anyhow::{Result, ensure};

const FIRST: u16 = 12_000;
/// Where the kernel's own range begins if it does not say.
const EPHEMERAL: u16 = 32_768;
const TRIES: u32 = 1_000;

/// So many ports on which nobody listens. They are held until the returned listeners are dropped.
pub(super) fn reserve(count: usize) -> Result<Vec<TcpListener>> {
    let end = first_ephemeral();
    let mut reserved = Vec::with_capacity(count);
    let mut port = start(end);
    for _ in 0..TRIES {
        if reserved.len() == count {
            break;
        }
        port = if port + 1 < end { port + 1 } else { FIRST };
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            reserved.push(listener);
        }
    }
    ensure!(reserved.len() == count, "no {count} free ports between {FIRST} and {end}");
    Ok(reserved)
}

/// Processes that look at the same moment begin at different places.
fn start(end: u16) -> u16 {
    let span = u32::from(end - FIRST);
    let start = std::process::id().wrapping_mul(97) % span;
    FIRST + u16::try_from(start).expect("less than the span, which is less than 65,536")
}

fn first_ephemeral() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_ascii_whitespace().next().and_then(|first| first.parse().ok());
    first.filter(|first| *first > FIRST + 1_000).unwrap_or(EPHEMERAL)
}
