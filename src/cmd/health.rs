//! `fanfare health`: asks the server of this machine whether it is ready, where there is no curl to ask with.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::settings::{self, Options};

const PATIENCE: Duration = Duration::from_secs(2);
/// Head and body of an answer are some hundred bytes.
const ANSWER_BYTES: u64 = 16 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the server listens [default: 127.0.0.1:8071].
    #[arg(long, env = "FANFARE_LISTEN")]
    listen: Option<String>,
    /// TOML file that may say where it listens.
    #[arg(long, env = "FANFARE_CONFIG")]
    config: Option<PathBuf>,
    /// Ask only whether the process lives, not whether it can work.
    #[arg(long)]
    live: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = Options { listen: args.listen.clone(), ..Options::default() };
    let options = options.or_file(args.config.as_deref())?;
    let address = reachable(settings::listen(options.listen.as_deref())?);
    let path = if args.live { "/livez" } else { "/readyz" };
    let answer = ask(address, path).with_context(|| format!("no answer from http://{address}{path}"))?;
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim());
        bail!("http://{address}{path} answers {status}: {body}");
    }
    println!("{}", if args.live { "live" } else { "ready" });
    Ok(ExitCode::SUCCESS)
}

/// A server that listens everywhere is reached on this machine.
fn reachable(listens: SocketAddr) -> SocketAddr {
    let address = match listens.ip() {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, listens.port())
}

fn ask(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_this_machine() {
        for (listens, asked) in
            [("0.0.0.0:8071", "127.0.0.1:8071"), ("[::]:8071", "[::1]:8071"), ("10.1.2.3:1", "10.1.2.3:1")]
        {
            let listens: SocketAddr = listens.parse().expect("an address");
            assert_eq!(reachable(listens).to_string(), asked);
        }
    }
}
