//! Asks a broker which brokers are there, in Kafka's own protocol, so that nothing but this needs a client.
//!
//! ```text
//! request    size i32 | api i16 = 3 | version i16 = 5 | correlation i32 | client i16+bytes
//!            | topics i32 = 0 (none) | create topics u8 = 0
//! answer     size i32 | correlation i32 | throttled i32 | brokers i32 | …
//! ```

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(2);
const METADATA: i16 = 3;
/// Understood by all releases since 1.0.
const METADATA_VERSION: i16 = 5;
const CLIENT: &str = "fanfare-testkit";
/// Three brokers answer with some hundred bytes.
const ANSWER_BYTES: usize = 64 << 10;

/// How many brokers the one on this port knows to be alive.
pub(super) fn brokers(port: u16) -> io::Result<u32> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&request())?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
    if size > ANSWER_BYTES {
        return Err(io::Error::other("the answer is not one of a Kafka broker"));
    }
    let mut answer = vec![0; size];
    stream.read_exact(&mut answer)?;
    count(&answer).ok_or_else(|| io::Error::other("the answer is not one of a Kafka broker"))
}

fn request() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(METADATA.to_be_bytes());
    body.extend(METADATA_VERSION.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend(u16::try_from(CLIENT.len()).expect("a short name").to_be_bytes());
    body.extend(CLIENT.as_bytes());
    body.extend(0_i32.to_be_bytes());
    body.push(0);
    let mut request = u32::try_from(body.len()).expect("a short request").to_be_bytes().to_vec();
    request.append(&mut body);
    request
}

fn count(answer: &[u8]) -> Option<u32> {
    let count = answer.get(8..12)?.try_into().ok().map(i32::from_be_bytes)?;
    u32::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request();
        let size = u32::from_be_bytes(request[..4].try_into().unwrap());
        assert_eq!(size as usize, request.len() - 4);
    }

    #[test]
    fn brokers_are_counted_and_nonsense_is_refused() {
        let answer =
            [&0_i32.to_be_bytes()[..], &0_i32.to_be_bytes(), &3_i32.to_be_bytes(), &[0; 30]].concat();
        assert_eq!(count(&answer), Some(3));
        assert_eq!(count(&answer[..11]), None);
    }
}
