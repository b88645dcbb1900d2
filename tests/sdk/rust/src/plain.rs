//! A request without the SDK, for what it does not know.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::Visit;

pub(crate) fn patch(visit: &Visit, path: &str, body: &Value) -> Result<()> {
    let address = visit.url.strip_prefix("http://").context("it is http")?;
    let (token, body) = (&visit.token, body.to_string());
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address)?;
    stream.write_all((head + &body).as_bytes())?;
    let mut status = String::new();
    BufReader::new(stream).read_line(&mut status)?;
    ensure!(status.starts_with("HTTP/1.1 200"), "{path}: {status}");
    Ok(())
}
