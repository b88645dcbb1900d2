//! `fanfare verify`: whether a request is what was signed, from its headers and body.

#[cfg(test)]
mod tests;

use std::{io::Read as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use fanfare_core::{
    Clock as _, SystemClock, Timestamp,
    limits::SIGNATURE_TOLERANCE,
    signature::{SigningKey, VerifyError, VerifyingKey, verify},
};

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("key").required(true).multiple(true).args(["secret", "public_key"]))]
pub(crate) struct Args {
    /// The endpoint's secret, `whsec_…`; several while it is being replaced.
    #[arg(long, value_name = "WHSEC")]
    secret: Vec<String>,
    /// The endpoint's public key, `whpk_…`, if it signs with ed25519.
    #[arg(long, value_name = "WHPK")]
    public_key: Vec<String>,
    /// A header as it was received, `name: value`. Give all there are: others than the three are ignored.
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// Value of `webhook-id`.
    #[arg(long)]
    id: Option<String>,
    /// Value of `webhook-timestamp`: seconds since 1970.
    #[arg(long, allow_hyphen_values = true)]
    timestamp: Option<String>,
    /// Value of `webhook-signature`: `v1,…`, several separated by blanks.
    #[arg(long)]
    signature: Option<String>,
    /// File with the body, byte for byte; `-` reads the standard input.
    #[arg(long, value_name = "FILE")]
    body: PathBuf,
    /// Prefix of the three headers, if the installation has one of its own beside webhook and svix.
    #[arg(long, value_name = "NAME")]
    header_prefix: Option<String>,
    /// Check the age at this time, in seconds since 1970, instead of now.
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true, conflicts_with = "ignore_age")]
    now: Option<i64>,
    /// Accept a request however old it is.
    #[arg(long)]
    ignore_age: bool,
    /// Print a JSON object instead of a line.
    #[arg(long)]
    json: bool,
}

/// The three headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Signed {
    id: String,
    timestamp: String,
    signature: String,
}

/// Why a request is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    /// Which check: `headers`, `signature` or `age`.
    check: &'static str,
    reason: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let keys = keys(args)?;
    let body = read_body(&args.body)?;
    let now = match args.now {
        Some(secs) => Some(Timestamp::from_secs(secs)),
        None => (!args.ignore_age).then(|| SystemClock.now()),
    };
    let result = signed(args).and_then(|signed| check(&keys, &signed, &body, now));
    if args.json {
        let (failed, reason) = match &result {
            Ok(()) => (None, None),
            Err(failure) => (Some(failure.check), Some(&failure.reason)),
        };
        println!(
            "{}",
            serde_json::json!({ "valid": result.is_ok(), "failedCheck": failed, "reason": reason })
        );
    } else {
        match &result {
            Ok(()) => println!("valid"),
            Err(failure) => println!("not valid: {}", failure.reason),
        }
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keys(args: &Args) -> anyhow::Result<Vec<VerifyingKey>> {
    let mut keys = Vec::new();
    for (option, texts) in [("--secret", &args.secret), ("--public-key", &args.public_key)] {
        for text in texts {
            // Not the text itself: it is a secret.
            keys.push(key(text.trim()).with_context(|| format!("{option} is not a key"))?);
        }
    }
    Ok(keys)
}

/// A private key is as good as its public one.
fn key(text: &str) -> anyhow::Result<VerifyingKey> {
    if !text.starts_with("whsk_") {
        return Ok(text.parse()?);
    }
    let public = text.parse::<SigningKey>()?.public_key();
    Ok(public.context("it has no public key")?.parse()?)
}

fn read_body(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    if path.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().read_to_end(&mut body).context("cannot read the body from the standard input")?;
        return Ok(body);
    }
    std::fs::read(path).with_context(|| format!("cannot read the body from {}", path.display()))
}

/// Finds the three values: an option of their own counts before the headers.
fn signed(args: &Args) -> Result<Signed, Failure> {
    let own = args.header_prefix.as_deref().map(|prefix| prefix.trim_end_matches('-').to_ascii_lowercase());
    let prefixes: Vec<&str> = own.as_deref().into_iter().chain(["webhook", "svix"]).collect();
    let headers: Vec<(String, &str)> =
        args.header.iter().map(|line| split(line)).collect::<Result<_, _>>()?;
    // Both sets may be there; they are not to be mixed.
    let given = |prefix: &&&str| {
        let signature = format!("{prefix}-signature");
        headers.iter().any(|(name, _)| *name == signature)
    };
    let prefix = prefixes.iter().find(given).copied().unwrap_or(prefixes[0]);
    let value = |option: Option<&String>, name: &str| {
        if let Some(value) = option {
            return Ok(value.trim().to_owned());
        }
        let name = format!("{prefix}-{name}");
        let mut found = headers.iter().filter(|(given, _)| *given == name).map(|(_, value)| *value);
        match (found.next(), found.next()) {
            (Some(""), None) => Err(Failure::headers(format!("header {name} is empty"))),
            (Some(value), None) => Ok(value.to_owned()),
            (None, _) => Err(Failure::headers(format!("header {name} is missing"))),
            (Some(_), Some(_)) => Err(Failure::headers(format!("header {name} is there twice"))),
        }
    };
    Ok(Signed {
        id: value(args.id.as_ref(), "id")?,
        timestamp: value(args.timestamp.as_ref(), "timestamp")?,
        signature: value(args.signature.as_ref(), "signature")?,
    })
}

fn split(line: &str) -> Result<(String, &str), Failure> {
    let (name, value) = line
        .split_once(':')
        .ok_or_else(|| Failure::headers(format!("malformed header `{line}`: it is not `name: value`")))?;
    Ok((name.trim().to_ascii_lowercase(), value.trim()))
}

/// `now`: at which the age is checked, if it is.
fn check(keys: &[VerifyingKey], signed: &Signed, body: &[u8], now: Option<Timestamp>) -> Result<(), Failure> {
    let Signed { id, timestamp, signature } = signed;
    let Ok(secs) = timestamp.parse::<i64>() else {
        let reason = format!("malformed timestamp `{timestamp}`: it is not whole seconds since 1970");
        return Err(Failure::headers(reason));
    };
    if let Some(part) = signature.split_ascii_whitespace().find(|part| !part.contains(',')) {
        let reason = format!("malformed signature `{part}`: it is not `v1,` or `v1a,` and base64");
        return Err(Failure::headers(reason));
    }
    // As if it had come at once: the age has an answer of its own.
    let signed_at = Timestamp::from_secs(secs);
    verify(keys, id, timestamp, signature, body, signed_at).map_err(|error| Failure {
        check: "signature",
        reason: match error {
            VerifyError::NoMatch => {
                "the signature does not match: body, secret, id or timestamp is not what was signed"
                    .to_owned()
            }
            VerifyError::NoSignature => {
                "no signature of the key's kind: whsec_… checks v1, whpk_… checks v1a".to_owned()
            }
            other => other.to_string(),
        },
    })?;
    let Some(now) = now else { return Ok(()) };
    let tolerance = SIGNATURE_TOLERANCE.as_secs();
    let (old, ahead) = (now.as_secs().saturating_sub(secs), secs.saturating_sub(now.as_secs()));
    let too_much = |by: i64| u64::try_from(by).is_ok_and(|by| by > tolerance);
    let reason = if too_much(old) {
        format!("the timestamp is {old} s old, more than {tolerance} s")
    } else if too_much(ahead) {
        format!("the timestamp is {ahead} s in the future, more than {tolerance} s")
    } else {
        return Ok(());
    };
    Err(Failure { check: "age", reason: format!("signature matches, but {reason}") })
}

impl Failure {
    fn headers(reason: String) -> Self {
        Self { check: "headers", reason }
    }
}
