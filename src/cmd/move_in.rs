//! `fanfare move-in`: copies what is set up at another server to this one.

use std::{
    io::{IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use fanfare_move_in::{Ended, Kind, Options, Patience, Server, Summary, Token, Told};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::json;

const TO: &str = "http://127.0.0.1:8071";
const TOKEN_BYTES: u64 = 64 << 10;
/// Things between two lines of progress.
const PROGRESS_EVERY: u64 = 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(clap::Subcommand)]
enum From {
    /// From a server with Svix's API: Svix's own, one that you run, or another Fanfare.
    Svix(SvixArgs),
}

#[derive(clap::Args)]
struct SvixArgs {
    /// The server to copy from, such as `https://api.eu.svix.com`.
    #[arg(long, value_name = "URL", env = "FANFARE_MOVE_IN_FROM")]
    from: Server,
    /// Its token, which must be one that sees secrets. Better in the variable or a file: others see command lines.
    #[arg(long, env = "FANFARE_MOVE_IN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// File with it; `-` reads the standard input.
    #[arg(long, value_name = "FILE", env = "FANFARE_MOVE_IN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// The Fanfare to copy to.
    #[arg(long, value_name = "URL", env = "FANFARE_MOVE_IN_TO", default_value = TO)]
    to: Server,
    /// Its token, for an organization: `fanfare token` prints one.
    #[arg(long, value_name = "TOKEN", env = "FANFARE_MOVE_IN_TO_TOKEN", hide_env_values = true)]
    to_token: Option<String>,
    /// File with it; `-` reads the standard input.
    #[arg(long, value_name = "FILE", env = "FANFARE_MOVE_IN_TO_TOKEN_FILE")]
    to_token_file: Option<PathBuf>,
    /// PEM file with certificate authorities to be trusted beside the public ones.
    #[arg(long, value_name = "FILE", env = "FANFARE_MOVE_IN_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Copy only this application, by id or uid; may be given several times. Event types are copied all the same.
    #[arg(long, value_name = "UID")]
    application: Vec<String>,
    /// Make endpoints disabled, so that nothing is delivered twice while both servers are sent messages.
    #[arg(long)]
    disabled: bool,
    /// Only tell what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object at the end.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let From::Svix(args) = args.from;
    let (json, dry_run) = (args.json, args.dry_run);
    let options = options(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut lines =
        Lines { shows: !json, is_terminal: std::io::stderr().is_terminal(), dry_run, looked_at: 0 };
    let Ended { summary, error } = runtime.block_on(fanfare_move_in::run(options, |told| lines.tell(told)));
    lines.clear();
    if json {
        let error = error.as_ref().map(ToString::to_string);
        println!("{}", as_json(&summary, dry_run, error.as_deref()));
    } else if error.is_none() || summary.total() > 0 {
        print(&summary, dry_run);
    }
    match error {
        Some(error) => Err(error.into()),
        None if summary.is_complete() => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

fn options(args: SvixArgs) -> anyhow::Result<Options> {
    Ok(Options {
        from_token: token(args.token, args.token_file, ("--token", "FANFARE_MOVE_IN_TOKEN"))?,
        to_token: token(args.to_token, args.to_token_file, ("--to-token", "FANFARE_MOVE_IN_TO_TOKEN"))?,
        from: args.from,
        to: args.to,
        authorities: args.ca_file.as_deref().map(authorities).transpose()?.unwrap_or_default(),
        applications: args.application,
        disabled: args.disabled,
        dry_run: args.dry_run,
        patience: Patience::default(),
    })
}

/// Parsed here, as clap would show a text that is wrong.
fn token(
    given: Option<String>,
    file: Option<PathBuf>,
    (option, variable): (&str, &str),
) -> anyhow::Result<Token> {
    match (given, file) {
        (Some(_), Some(_)) => bail!("{option} and {option}-file: give one of them"),
        (Some(text), None) => text.parse().context(option.to_owned()),
        (None, Some(path)) => {
            let text =
                read(&path).with_context(|| format!("{option}-file: cannot read {}", path.display()))?;
            text.parse().with_context(|| format!("{option}-file: {}", path.display()))
        }
        (None, None) => {
            bail!("a token is missing: give it with {option}-file, or in the variable {variable}")
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().take(TOKEN_BYTES).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(path)?.take(TOKEN_BYTES).read_to_string(&mut text)?;
    }
    Ok(text)
}

fn authorities(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.with_context(|| format!("--ca-file: cannot read {}", path.display()))?;
    if certificates.is_empty() {
        bail!("--ca-file: {} has no certificate", path.display());
    }
    Ok(certificates)
}

/// A line for each thing that is not as it was; and while there is none, how many were looked at.
struct Lines {
    shows: bool,
    is_terminal: bool,
    dry_run: bool,
    looked_at: u64,
}

impl Lines {
    fn tell(&mut self, told: Told<'_>) {
        let would = if self.dry_run { "would be " } else { "" };
        let line = match told {
            Told::Made(item) => Some(format!("{would}made: {item}")),
            Told::Changed(item, names) => Some(format!("{would}changed: {item} ({})", names.join(", "))),
            Told::NotCopied(not_copied) => {
                Some(format!("not copied: {}: {}", not_copied.item, not_copied.reason))
            }
            Told::Equal(_) => None,
        };
        self.looked_at += u64::from(!matches!(told, Told::NotCopied(_)));
        match line {
            Some(line) if self.shows => {
                self.clear();
                println!("{line}");
            }
            _ => self.progress(),
        }
    }

    fn progress(&self) {
        if self.shows && self.is_terminal && self.looked_at.is_multiple_of(PROGRESS_EVERY) {
            eprint!("\r{} looked at \u{2026}", self.looked_at);
            // Where it cannot be shown, it is not.
            drop(std::io::stderr().flush());
        }
    }

    fn clear(&self) {
        if self.shows && self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn print(summary: &Summary, dry_run: bool) {
    let would = if dry_run { "would be " } else { "" };
    println!();
    for kind in Kind::ALL {
        let counts = summary.of(kind);
        println!(
            "{:<14}{would}made {}, {would}changed {}, equal {}, not copied {}",
            format!("{kind}s:"),
            counts.made,
            counts.changed,
            counts.equal,
            counts.failed
        );
    }
    if summary.is_complete() {
        return;
    }
    println!("\nNot copied, or not all of it:");
    for not_copied in &summary.not_copied {
        println!("- {}: {}", not_copied.item, not_copied.reason);
    }
    if summary.not_copied_unnamed > 0 {
        println!("- and {} more: mend these, and start again", summary.not_copied_unnamed);
    }
}

fn as_json(summary: &Summary, dry_run: bool, error: Option<&str>) -> serde_json::Value {
    let counts = |kind: Kind| {
        let counts = summary.of(kind);
        json!({
            "made": counts.made, "changed": counts.changed, "equal": counts.equal, "notCopied": counts.failed,
        })
    };
    let not_copied: Vec<_> = summary
        .not_copied
        .iter()
        .map(|not_copied| {
            json!({
                "kind": not_copied.item.kind.to_string(),
                "name": not_copied.item.name,
                "reason": not_copied.reason,
            })
        })
        .collect();
    json!({
        "dryRun": dry_run,
        "eventTypes": counts(Kind::EventType),
        "applications": counts(Kind::Application),
        "endpoints": counts(Kind::Endpoint),
        "notCopied": not_copied,
        "notCopiedUnnamed": summary.not_copied_unnamed,
        "error": error,
    })
}
